-- Token bucket. State: "<units> <as_of>", see algorithm/token_bucket.rs.
--
-- Every algorithm is a function of
--   value  the stored state, or false
--   now    microseconds
--   cost   what to charge; below zero to give back
--   a, b, limit   its parameters, here units per microsecond, units per token, burst
-- and returns
--   wait             0 charge it, > 0 microseconds to wait, -1 never
--   available        what can be taken before the charge
--   value            the state after the charge (only meaningful when wait is 0)
--   available_after, settles_after   the view of that state; of the unchanged one on a denial
--   delay            microseconds to hold the request back
--   rounding         by how many units settles_after was rounded up; nil where it is the same
--                    after any charge
-- All numbers are whole and at most 2^53, where doubles are exact: see algorithm/rate.rs.
algorithms['token-bucket'] = function(value, now, cost, a, b, limit)
  local capacity = limit * b
  local units, as_of = capacity, now
  if value then
    units, as_of = string.match(value, '^(%d+) (%d+)$')
    units, as_of = tonumber(units), tonumber(as_of)
  end
  local behind = math.max(as_of - now, 0)
  local elapsed = math.max(now - as_of, 0)
  local missing = capacity - units
  if elapsed >= math.ceil(missing / a) then
    units = capacity
  else
    units = units + elapsed * a
  end
  as_of = math.max(as_of, now)

  local function settles(level)
    if level >= capacity then return 0 end
    return behind + math.ceil((capacity - level) / a)
  end

  local available = math.floor(units / b)
  if cost > limit then
    return -1, available, nil, available, settles(units), 0
  end
  local after = math.min(units - cost * b, capacity)
  if cost < -limit then after = capacity end
  if after < 0 then
    return behind + math.ceil(-after / a), available, nil, available, settles(units), 0
  end
  local stored = string.format('%.0f %.0f', after, as_of)
  local rounding = math.ceil((capacity - after) / a) * a - (capacity - after)
  return 0, available, stored, math.floor(after / b), settles(after), 0, rounding
end
