-- May somebody look at SQL for this SKU? Not while stock is coming back, and not when it is known.
-- KEYS: entry, epoch, raises. ARGV: time, whether to look although it is known.
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
if redis.call('ZCARD', KEYS[3]) > 0 then return nil end
local known = redis.call('HGET', KEYS[1], 'until')
if known and now < tonumber(known) and ARGV[2] ~= '1' then return nil end
return { whole(now), redis.call('GET', KEYS[2]) or '' }
