-- Production: the time is Redis's own, so that servers with wrong clocks cannot mint tokens, and
-- states expire by themselves once they have settled.

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function now_us()
  return now
end

local function load(key)
  return redis.call('GET', key)
end

local function load_all()
  return redis.call('MGET', unpack(KEYS))
end

-- A key is there while the clock, in whole milliseconds, is at most `until_ms`.
local function write(key, value, until_ms)
  redis.call('SET', key, value, 'PXAT', string.format('%.0f', until_ms))
end

-- To a whole number, where it is; it expires when it would have.
local function add(key, number)
  redis.call('INCRBY', key, number)
end
