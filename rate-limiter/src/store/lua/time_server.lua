-- Production: the time is Redis's own, so that servers with wrong clocks cannot mint tokens, and
-- states expire by themselves once they have settled.

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

local function now_us()
  return now
end

local function load(key)
  return call('GET', key)
end

local function load_all()
  return call('MGET', unpack(KEYS))
end

-- A key is there while the clock, in whole milliseconds, is at most `until_ms`.
local function write(key, value, until_ms)
  call('SET', key, value, 'PXAT', string.format('%d', until_ms))
end

-- To a whole number, where it is; it expires when it would have. Redis would print the number
-- itself as a fraction, and take longer for that than for the addition.
local function add(key, number)
  call('INCRBY', key, string.format('%d', number))
end
