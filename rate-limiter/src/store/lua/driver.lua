-- One atomic step for all limits of a policy.
--   KEYS[i]   the state of limit i; all in one cluster slot, by their hash tag
--   ARGV[1]   check | peek | take | refund
--   ARGV[2]   cost; for take the most to take, for refund what to give back
--   ARGV[3 + 4(i-1)] ...   algorithm and parameters of limit i: name, a, b, limit
-- Returns {outcome, limit index, remaining, wait, settles_after, delay, granted}:
--   outcome   0 allowed, 1 denied, 2 never possible; times in microseconds
local op, cost = ARGV[1], tonumber(ARGV[2])
local now = now_us()

local states = {}
for i = 1, #KEYS do states[i] = load(KEYS[i]) end

local function ask(i, amount)
  local at = 4 * i - 1
  local algorithm = algorithms[ARGV[at]]
  return algorithm(states[i], now, amount, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]),
    tonumber(ARGV[at + 3]))
end

local granted = cost
if op == 'take' then
  for i = 1, #KEYS do
    local _, available = ask(i, 0)
    granted = math.min(granted, available)
  end
  cost = granted
  if granted == 0 then op, cost = 'peek', math.min(tonumber(ARGV[2]), 1) end
elseif op == 'peek' then
  cost, granted = 1, 0
elseif op == 'refund' then
  cost, granted = -cost, 0
end
local holds_back = op ~= 'refund'

-- Ask every limit before charging any: all or nothing.
local answers, allowed, delay = {}, true, 0
for i = 1, #KEYS do
  local wait, available, stored, available_after, settles_after, held = ask(i, cost)
  if op == 'peek' and wait == 0 then
    local _, _, _, unchanged, settles_unchanged = ask(i, 0)
    available_after, settles_after = unchanged, settles_unchanged
  end
  answers[i] = { wait, available, stored, available_after, settles_after }
  allowed = allowed and wait == 0
  if holds_back then delay = math.max(delay, held) end
end

-- The limit to report: never possible before the longest wait before the least remaining.
local function outranks(x, y)
  if x[1] == -1 or y[1] == -1 then return x[1] == -1 and y[1] ~= -1 end
  if x[1] ~= y[1] then return x[1] > y[1] end
  return x[1] == 0 and x[4] < y[4]
end

-- On a denial nothing is charged, so every limit is reported as it was.
if not allowed then
  granted, delay = 0, 0
  for i = 1, #KEYS do
    if answers[i][1] == 0 then
      local _, _, _, available, settles_after = ask(i, 0)
      answers[i][4], answers[i][5] = available, settles_after
    end
  end
end
local binding = 1
for i = 2, #KEYS do
  if outranks(answers[i], answers[binding]) then binding = i end
end

if allowed and op ~= 'peek' and cost ~= 0 then
  for i = 1, #KEYS do
    if cost > 0 or states[i] then save(KEYS[i], answers[i][3], answers[i][5]) end
  end
end

local wait, remaining, settles_after = answers[binding][1], answers[binding][4], answers[binding][5]
local outcome = 0
if wait == -1 then outcome = 2 elseif wait > 0 then outcome = 1 end
return { outcome, binding - 1, remaining, wait, settles_after, delay, granted }
