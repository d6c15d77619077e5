-- Concurrency limit: a sliding log whose entries leave early, oldest lease first; see
-- algorithm/concurrency.rs. Needs sliding_log.lua before it.
-- Parameters: lease in microseconds, unused, limit. Returns: see token_bucket.lua.
algorithms['concurrency'] = function(value, now, cost, lease_us, _, limit)
  return sliding_log(value, now, cost, lease_us, limit, function(log, left)
    for i = 2, #log, 2 do
      local released = math.min(log[i], left)
      log[i], left = log[i] - released, left - released
    end
  end)
end
