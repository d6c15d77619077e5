-- What the look has seen, unless stock has come back since it began.
-- KEYS: entry, epoch, raises. ARGV: time, when the look began, the epoch then, what was left, for
-- how long that is certain, the longest a look may take, the name of the look.
-- Returns what the entry said before, '' when there was none, nil when nothing was learnt.
local now, began = now_ms(), tonumber(ARGV[2])
local overtaken = (redis.call('GET', KEYS[2]) or '') ~= ARGV[3] or redis.call('ZCARD', KEYS[3]) > 0
if overtaken or now - began > tonumber(ARGV[6]) then return nil end
local before = redis.call('HMGET', KEYS[1], 'left', 'until')
local known = before[1] and now < tonumber(before[2])
-- From when the look began, not from now: its snapshot is not younger than that.
local certain_until = whole(began + ARGV[5])
redis.call('HSET', KEYS[1], 'left', ARGV[4], 'until', certain_until, 'look', ARGV[7], 'run', run_id())
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[6])
return known and before[1] or ''
