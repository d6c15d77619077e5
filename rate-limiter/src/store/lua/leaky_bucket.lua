-- Leaky bucket as a meter. State: "<units> <as_of>", see algorithm/leaky_bucket.rs.
-- Parameters: units per microsecond, units per token, burst. Returns: see token_bucket.lua.
algorithms['leaky-bucket'] = function(value, now, cost, a, b, limit)
  local capacity = limit * b
  local units, as_of = 0, now
  if value then
    units, as_of = string.match(value, '^(%d+) (%d+)$')
    units, as_of = tonumber(units), tonumber(as_of)
  end
  local behind = math.max(as_of - now, 0)
  local elapsed = math.max(now - as_of, 0)
  if elapsed >= math.ceil(units / a) then
    units = 0
  else
    units = units - elapsed * a
  end
  as_of = math.max(as_of, now)

  local function settles(water)
    if water <= 0 then return 0 end
    return behind + math.ceil(water / a)
  end

  local available = math.floor((capacity - units) / b)
  if cost > limit then
    return -1, available, nil, available, settles(units), 0
  end
  local after = math.max(units + cost * b, 0)
  if cost < -limit then after = 0 end
  if after > capacity then
    return behind + math.ceil((after - capacity) / a), available, nil, available, settles(units), 0
  end
  local stored = string.format('%.0f %.0f', after, as_of)
  local rounding = math.ceil(after / a) * a - after
  return 0, available, stored, math.floor((capacity - after) / b), settles(after), 0, rounding
end
