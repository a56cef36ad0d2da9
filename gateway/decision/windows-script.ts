import { DECISION_MS } from './counter-server.ts';

/**
 * Counts one request in all windows of a chain, or in none, in one step that nothing comes between.
 *
 * Keys: one for each window, all with the same hash tag, so that they are on one node of a cluster. A window is a number that
 * expires when the window ends.
 *
 * Arguments: what is counted; what has to be left in each window (0: nothing has); then for each window
 * - its limit,
 * - its length in milliseconds,
 * - what the asking node knows to be used of it, for a server that lost it,
 * - what that node counted on its own while the server was away, to be added; less than 0 where it gave back more,
 * - how many milliseconds the window still runs as far as the node knows.
 *
 * Returns whether it was counted (1 or 0), then for each window what is used and the milliseconds until it ends (-1: it has
 * not begun).
 */
export const SPEND = `
local cost = tonumber(ARGV[1])
local needed = tonumber(ARGV[2])
local answer = {1}
for i = 1, #KEYS do
  local at = i * 5 - 2
  local used = redis.call('GET', KEYS[i])
  local ends = -1
  if used then
    local owed = tonumber(ARGV[at + 3])
    used = tonumber(used)
    if owed ~= 0 then used = redis.call('INCRBY', KEYS[i], math.max(owed, -used)) end
    ends = redis.call('PTTL', KEYS[i])
  else
    used = tonumber(ARGV[at + 2])
    ends = tonumber(ARGV[at + 4])
    if used > 0 and ends > 0 then
      redis.call('SET', KEYS[i], ARGV[at + 2], 'PX', ARGV[at + 4])
    else
      used = 0
      ends = -1
    end
  end
  if needed > 0 and used + needed > tonumber(ARGV[at]) then answer[1] = 0 end
  answer[i * 2] = used
  answer[i * 2 + 1] = ends
end
if answer[1] == 1 and cost > 0 then
  for i = 1, #KEYS do
    if answer[i * 2 + 1] < 0 then
      redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[i * 5 - 1])
      answer[i * 2] = cost
      answer[i * 2 + 1] = tonumber(ARGV[i * 5 - 1])
    else
      answer[i * 2] = redis.call('INCRBY', KEYS[i], cost)
    end
  end
end
return answer`;

/**
 * Puts right what a request was counted as, in the windows of a chain.
 *
 * Keys: as above. Arguments: the difference; how many milliseconds ago the request was counted; then the length of each
 * window in milliseconds. More is counted in the windows that run now; less is given back only where it was counted: in
 * windows that had begun by then, or as long after as a decision takes at the most.
 *
 * Returns for each window what is used and the milliseconds until it ends (-1: it has not begun).
 */
export const SETTLE = `
local difference = tonumber(ARGV[1])
local ago = tonumber(ARGV[2])
local answer = {}
for i = 1, #KEYS do
  local length = tonumber(ARGV[i + 2])
  local used = tonumber(redis.call('GET', KEYS[i]) or 0)
  local ends = redis.call('PTTL', KEYS[i])
  if ends < 0 then
    ends = -1
    if difference > 0 then
      redis.call('SET', KEYS[i], difference, 'PX', length)
      used = difference
      ends = length
    end
  elseif difference > 0 then
    used = redis.call('INCRBY', KEYS[i], difference)
  elseif length - ends >= ago - ${DECISION_MS} then
    local back = math.max(difference, -used)
    if back < 0 then used = redis.call('INCRBY', KEYS[i], back) end
  end
  answer[i * 2 - 1] = used
  answer[i * 2] = ends
end
return answer`;
