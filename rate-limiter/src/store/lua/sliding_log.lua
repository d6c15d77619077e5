-- Sliding log. State: a MessagePack array {at, cost, at, cost, ...}, oldest first; see
-- algorithm/sliding_log.rs. A third of the bytes of a sorted set with a member per request.
-- Parameters: window in microseconds, unused, limit. Returns: see token_bucket.lua.
local function sliding_log(value, now, cost, window_us, limit, refund)
  local log = {}
  if value then log = cmsgpack.unpack(value) end
  local judged = now
  if #log > 0 then judged = math.max(now, log[#log - 1]) end

  local function live(entries)
    local kept = {}
    for i = 1, #entries, 2 do
      if entries[i] + window_us > judged and entries[i + 1] > 0 then
        kept[#kept + 1] = entries[i]
        kept[#kept + 1] = entries[i + 1]
      end
    end
    return kept
  end
  local function used(entries)
    local sum = 0
    for i = 2, #entries, 2 do sum = sum + entries[i] end
    return sum
  end
  local function settles(entries)
    if #entries == 0 then return 0 end
    return entries[#entries - 1] + window_us - now
  end

  log = live(log)
  local taken = used(log)
  local available = limit - taken
  if cost > limit then
    return -1, available, nil, available, settles(log), 0
  end
  local excess = taken + cost - limit
  if cost >= 0 and excess > 0 then
    for i = 1, #log, 2 do
      excess = excess - log[i + 1]
      if excess <= 0 then
        return log[i] + window_us - now, available, nil, available, settles(log), 0
      end
    end
  end
  if cost > 0 then
    if #log > 0 and log[#log - 1] == judged then
      log[#log] = log[#log] + cost
    else
      log[#log + 1] = judged
      log[#log + 1] = cost
    end
  elseif cost < 0 then
    refund(log, -cost)
    log = live(log)
  end
  return 0, available, cmsgpack.pack(log), limit - used(log), settles(log), 0
end

-- Gives back the newest entries: they are the ones just charged.
algorithms['sliding-log'] = function(value, now, cost, window_us, _, limit)
  return sliding_log(value, now, cost, window_us, limit, function(log, left)
    for i = #log, 2, -2 do
      local returned = math.min(log[i], left)
      log[i], left = log[i] - returned, left - returned
    end
  end)
end
