-- Test build only: the time is the last argument, and expiry happens on that time too. It lets
-- the suite run a real Redis on a virtual clock and prove that expiry is invisible.

local function now_us()
  return tonumber(ARGV[#ARGV])
end

local function load(key)
  local stored = redis.call('GET', key)
  if not stored then return false end
  local expires_ms, value = string.match(stored, '^(%d+)|(.*)$')
  if math.floor(now_us() / 1000) >= tonumber(expires_ms) then return false end
  return value
end

local function save(key, value, settles_us)
  local expires_ms = math.floor(now_us() / 1000) + math.ceil(settles_us / 1000) + 1
  redis.call('SET', key, string.format('%.0f|', expires_ms) .. value)
end
