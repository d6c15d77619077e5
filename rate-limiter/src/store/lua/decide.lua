-- One operation on all limits of one caller. Decides and writes nothing.
--   op       check | peek | take | refund
--   cost     for take the most to take, for refund what to give back
--   limits   of each limit {algorithm, a, b, limit}
--   states   of each limit the stored value, or false
-- Returns the reply, and what to store: of each limit {value, settles_after}, or false.
-- The reply is {outcome, limit index, remaining, wait, settles_after, delay, granted}:
--   outcome   0 allowed, 1 denied, 2 never possible; times in microseconds
local function limits_from(at, count)
  local limits = {}
  for i = 1, count do
    limits[i] = { algorithms[ARGV[at]], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
      tonumber(ARGV[at + 3]) }
    at = at + 4
  end
  return limits
end

-- The limit to report: never possible before the longest wait before the least remaining.
local function outranks(x, y)
  if x[1] == -1 or y[1] == -1 then return x[1] == -1 and y[1] ~= -1 end
  if x[1] ~= y[1] then return x[1] > y[1] end
  return x[1] == 0 and x[4] < y[4]
end

local function decide(op, cost, limits, states, now)
  local function ask(i, amount)
    local limit = limits[i]
    return limit[1](states[i], now, amount, limit[2], limit[3], limit[4])
  end

  local granted, most = cost, cost
  if op == 'take' then
    for i = 1, #limits do
      local _, available = ask(i, 0)
      granted = math.min(granted, available)
    end
    cost = granted
    if granted == 0 then op, cost = 'peek', math.min(most, 1) end
  elseif op == 'peek' then
    cost, granted = 1, 0
  elseif op == 'refund' then
    cost, granted = -cost, 0
  end
  local holds_back = op ~= 'refund'

  -- Ask every limit before charging any: all or nothing.
  local answers, allowed, delay = {}, true, 0
  for i = 1, #limits do
    local wait, available, stored, available_after, settles_after, held = ask(i, cost)
    if op == 'peek' and wait == 0 then
      local _, _, _, unchanged, settles_unchanged = ask(i, 0)
      available_after, settles_after = unchanged, settles_unchanged
    end
    answers[i] = { wait, available, stored, available_after, settles_after }
    allowed = allowed and wait == 0
    if holds_back then delay = math.max(delay, held) end
  end

  -- On a denial nothing is charged, so every limit is reported as it was.
  if not allowed then
    granted, delay = 0, 0
    for i = 1, #limits do
      if answers[i][1] == 0 then
        local _, _, _, available, settles_after = ask(i, 0)
        answers[i][4], answers[i][5] = available, settles_after
      end
    end
  end
  local binding = 1
  for i = 2, #limits do
    if outranks(answers[i], answers[binding]) then binding = i end
  end

  local changed = false
  if allowed and op ~= 'peek' and cost ~= 0 then
    changed = {}
    for i = 1, #limits do
      local stores = cost > 0 or states[i]
      changed[i] = stores and { answers[i][3], answers[i][5] }
    end
  end

  local wait = answers[binding][1]
  local outcome = 0
  if wait == -1 then outcome = 2 elseif wait > 0 then outcome = 1 end
  return { outcome, binding - 1, answers[binding][4], wait, answers[binding][5], delay, granted },
    changed
end
