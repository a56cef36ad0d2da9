-- wrk goes round the keys of a file. Arguments: key file, host, path, how many of the keys, bytes of a body (0: none).
local requests = {}
local at = 0

function init(args)
  local file, host, path, most, bytes = args[1], args[2], args[3], tonumber(args[4]), tonumber(args[5])
  local method, body = "GET", ""
  if bytes > 0 then
    method, body = "POST", string.rep("x", bytes)
  end
  for key in io.lines(file) do
    if #requests == most then
      break
    end
    local head = method .. " " .. path .. " HTTP/1.1\r\nHost: " .. host .. "\r\nX-API-Key: " .. key .. "\r\n"
    if bytes > 0 then
      head = head .. "Content-Length: " .. bytes .. "\r\n"
    end
    requests[#requests + 1] = head .. "\r\n" .. body
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"microseconds":%d,"bytes":%d,"p50":%d,"p99":%d,"unexpected":%d,"broken":%d}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
