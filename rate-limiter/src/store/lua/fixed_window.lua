-- Fixed window. State: "<window> <used>", see algorithm/fixed_window.rs.
-- Parameters: window in microseconds, unused, limit. Returns: see token_bucket.lua.
algorithms['fixed-window'] = function(value, now, cost, window_us, _, limit)
  local window, used = math.floor(now / window_us), 0
  if value then
    local stored_window, stored_used = string.match(value, '^(%d+) (%d+)$')
    stored_window = tonumber(stored_window)
    if stored_window >= window then window, used = stored_window, tonumber(stored_used) end
  end
  local until_next = (window + 1) * window_us - now
  local function settles(count)
    if count == 0 then return 0 end
    return until_next
  end

  local available = limit - used
  if cost > limit then
    return -1, available, nil, available, settles(used), 0
  elseif cost > available then
    return until_next, available, nil, available, settles(used), 0
  end
  used = math.max(used + cost, 0)
  return 0, available, string.format('%.0f %.0f', window, used), limit - used, settles(used), 0
end
