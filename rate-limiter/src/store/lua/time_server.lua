-- Production: the time is Redis's own, so that servers with wrong clocks cannot mint tokens, and
-- states expire by themselves once they have settled.

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function load(key)
  return redis.call('GET', key)
end

-- One millisecond is added because Redis counts expiry from the start of the current one: the key
-- must never go before its state has settled, or the caller would be given a full quota early.
local function save(key, value, settles_us)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.ceil(settles_us / 1000) + 1))
end
