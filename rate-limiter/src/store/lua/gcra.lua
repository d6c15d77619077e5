-- GCRA. State: the theoretical arrival time in microseconds, "<us>", and where the rate's
-- interval is not a whole number of them "<us> <frac>"; see algorithm/gcra.rs.
-- Parameters: units per microsecond, units per token, burst. Returns: see token_bucket.lua.
local function gcra(value, now, cost, a, b, limit)
  local capacity = limit * b
  local us, frac = now, 0
  if value then
    local whole, rest = string.match(value, '^(%d+) ?(%d*)$')
    us, frac = tonumber(whole), tonumber(rest) or 0
    if us < now then us, frac = now, 0 end
  end

  local function available(ahead_us, ahead_frac)
    if ahead_us > math.floor(capacity / a) then return 0 end
    return math.floor(math.max(capacity - ahead_us * a - ahead_frac, 0) / b)
  end
  local function settles(ahead_us, ahead_frac)
    if ahead_frac > 0 then return ahead_us + 1 end
    return ahead_us
  end

  local ahead = us - now
  local before, queued = available(ahead, frac), settles(ahead, frac)
  if cost > limit then
    return -1, before, nil, before, queued, 0
  end
  if cost < -limit then cost = -limit end
  if cost >= 0 then
    local over_us = ahead - math.floor((capacity - cost * b - frac) / a)
    if over_us > 0 then
      return over_us, before, nil, before, queued, 0
    end
  end
  local units = cost * b
  local whole = math.floor(units / a)
  us, frac = us + whole, frac + units - whole * a
  if frac >= a then us, frac = us + 1, frac - a end
  if us < now then us, frac = now, 0 end
  local stored = string.format('%.0f', us)
  if frac > 0 then stored = string.format('%.0f %.0f', us, frac) end
  local rounding = frac > 0 and a - frac or 0
  return 0, before, stored, available(us - now, frac), settles(us - now, frac), queued, rounding
end

algorithms['gcra'] = function(...)
  local wait, available, stored, available_after, settles_after, _, rounding = gcra(...)
  return wait, available, stored, available_after, settles_after, 0, rounding
end
