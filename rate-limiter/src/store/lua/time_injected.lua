-- Test build only: the time is the last argument, and expiry happens on that time too. It lets
-- the suite run a real Redis on a virtual clock and prove that expiry is invisible.

local now = tonumber(ARGV[#ARGV])

local function now_us()
  return now
end

local function parts(stored)
  local until_ms, value = string.match(stored, '^(%d+)|(.*)$')
  return tonumber(until_ms), value
end

local function load(key)
  local stored = redis.call('GET', key)
  if not stored then return false end
  local until_ms, value = parts(stored)
  if math.floor(now / 1000) > until_ms then return false end
  return value
end

local function load_all()
  local values = {}
  for i = 1, #KEYS do values[i] = load(KEYS[i]) end
  return values
end

local function write(key, value, until_ms)
  redis.call('SET', key, string.format('%.0f|', until_ms) .. value)
end

local function add(key, number)
  local until_ms, value = parts(redis.call('GET', key))
  write(key, string.format('%.0f', tonumber(value) + number), until_ms)
end
