-- Sliding counter. State: "<window> <current> <previous>", see algorithm/sliding_counter.rs.
-- Parameters: window in milliseconds, unused, limit. Returns: see token_bucket.lua.
algorithms['sliding-counter'] = function(value, now, cost, window_ms, _, limit)
  local window_us = window_ms * 1000
  local window, current, previous = math.floor(now / window_us), 0, 0
  if value then
    local w, c, p = string.match(value, '^(%d+) (%d+) (%d+)$')
    w, c, p = tonumber(w), tonumber(c), tonumber(p)
    if w >= window then
      window, current, previous = w, c, p
    elseif w + 1 == window then
      previous = c
    end
  end
  local elapsed_ms = math.floor(math.max(now - window * window_us, 0) / 1000)
  local fading = previous * (window_ms - elapsed_ms)

  local function available(count)
    return math.floor(math.max((limit - count) * window_ms - fading, 0) / window_ms)
  end
  local function settles(count)
    if count > 0 then return (window + 2) * window_us - now end
    if previous > 0 then return (window + 1) * window_us - now end
    return 0
  end
  -- Milliseconds into a window after which `count` weighs at most `room` requests.
  local function faded_ms(count, room)
    return window_ms - math.min(math.floor(room * window_ms / math.max(count, 1)), window_ms)
  end

  local before = available(current)
  if cost > limit then
    return -1, before, nil, before, settles(current), 0
  elseif cost > before then
    local room, at = limit - cost, nil
    if current <= room then
      at = window * window_us + faded_ms(previous, room - current) * 1000
    else
      at = (window + 1) * window_us + faded_ms(current, room) * 1000
    end
    return at - now, before, nil, before, settles(current), 0
  end
  current = math.max(current + cost, 0)
  local stored = string.format('%.0f %.0f %.0f', window, current, previous)
  return 0, before, stored, available(current), settles(current), 0
end
