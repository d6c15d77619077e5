-- Since when this server has been the primary; see learn() in store/redis/session.rs.
--   KEYS[1]   the note: "<history> <since>"
--   ARGV[1]   the server's replication history
-- Returns microseconds.
local note = redis.call('GET', KEYS[1])
if note then
  local history, since = string.match(note, '^(%w+) (%d+)$')
  if history == ARGV[1] then return tonumber(since) end
end
local time = redis.call('TIME')
local since = time[1] * 1000000 + time[2]
redis.call('SET', KEYS[1], ARGV[1] .. string.format(' %.0f', since))
return since
