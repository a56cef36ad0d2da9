-- The check of nginx-lua.conf. SHA-256 is that of libcrypto, called as resty.sha256 calls it.
local ffi = require("ffi")
ffi.cdef([[
  typedef struct { unsigned char room[128]; } sha256_room;
  int SHA256_Init(sha256_room *c);
  int SHA256_Update(sha256_room *c, const void *data, size_t len);
  int SHA256_Final(unsigned char *md, sha256_room *c);
]])
local room = ffi.new("sha256_room")
local digest = ffi.new("unsigned char[32]")
local keys, counts = ngx.shared.keys, ngx.shared.counts
local limit

local function sha256(text)
  ffi.C.SHA256_Init(room)
  ffi.C.SHA256_Update(room, text, #text)
  ffi.C.SHA256_Final(digest, room)
  return ffi.string(digest, 32)
end

local checks = {}

-- A line of the file is a key and its id.
function checks.load(file, requests_a_minute)
  limit = requests_a_minute
  for line in io.lines(file) do
    local key, id = line:match("^(%S+) (%S+)$")
    assert(keys:set(sha256(key), id))
  end
end

function checks.check()
  local key = ngx.var.http_x_api_key
  local id = key and keys:get(sha256(key))
  if not id then
    return ngx.exit(401)
  end
  local window = math.floor(ngx.now() / 60)
  local count = counts:incr(id .. ":" .. window, 1, 0, 120)
  if count > limit then
    return ngx.exit(429)
  end
  ngx.req.clear_header("X-API-Key")
  ngx.req.set_header("X-Credential-Identifier", id)
end

return checks
