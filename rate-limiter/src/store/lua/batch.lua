-- Many callers of one policy in one atomic step; see store/coalesced.rs. Needs decide.lua.
--   KEYS      the states of the first caller, one per limit, then of the second, ...
--   ARGV[1]   number of limits; then of each its name, a, b, limit
--   then for each caller: its number of runs, and of each run op, cost, count
-- A run is `count` equal operations in a row. Only checks come in runs longer than one, and only
-- where the policy has one limit.
-- Returns for each run, flat: how many of the run were allowed; if any were, the reply of the last
-- of them; if not all were, the reply of all others. A reply is that of decide.lua and `rounding`,
-- the 7th value an algorithm returns: see Shared in coalesce.rs.
local count_limits = tonumber(ARGV[1])
local limits = limits_from(2, count_limits)
local now = now_us()
local replies, size = {}, 0
local function put(number)
  size = size + 1
  replies[size] = number
end

local function put_reply(outcome, index, remaining, wait, settles_after, delay, granted, rounding)
  put(outcome) put(index) put(remaining) put(math.max(wait, 0))
  put(settles_after) put(delay) put(granted) put(rounding or 0)
end

-- One of a kind: whatever decide.lua says.
local function alone(op, cost, states)
  local reply, changed = decide(op, cost, limits, states, now)
  put(reply[1] == 0 and 1 or 0)
  put_reply(unpack(reply))
  return changed
end

-- A run of checks against one limit. They are charged together, and what is left after them is
-- what it would be had they come one by one: charging is addition, in whole units.
local function together(cost, count, states)
  local algorithm, a, b, limit = unpack(limits[1])
  local value, changed = states[1], false
  local allowed = count
  if count > 1 then
    local _, available = algorithm(value, now, 0, a, b, limit)
    allowed = math.min(count, math.floor(available / cost))
  end
  if allowed > 0 then
    local wait, _, stored, remaining, settles_after, delay, rounding =
      algorithm(value, now, allowed * cost, a, b, limit)
    if wait == 0 then
      put(allowed)
      put_reply(0, 0, remaining, 0, settles_after, delay, cost, rounding)
      value, changed = stored, { { stored, settles_after } }
    else
      -- Only when it is one: a run was cut to what is available.
      put(0)
      put_reply(wait == -1 and 2 or 1, 0, remaining, wait, settles_after, 0, 0, 0)
      return false
    end
  else
    put(0)
  end
  if allowed < count then
    local wait, _, _, remaining, settles_after = algorithm(value, now, cost, a, b, limit)
    put_reply(wait == -1 and 2 or 1, 0, remaining, wait, settles_after, 0, 0, 0)
  end
  return changed
end

-- Written only after everything was decided: a script that fails has charged nobody.
local unsaved = {}
local at = 2 + 4 * count_limits
for first = 1, #KEYS, count_limits do
  local states = {}
  for i = 1, count_limits do states[i] = load(KEYS[first + i - 1]) or unseen(limits[i]) end
  local runs = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, runs do
    local op, cost, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    at = at + 3
    local changed
    if op == 'check' and cost > 0 and count_limits == 1 then
      changed = together(cost, count, states)
    else
      changed = alone(op, cost, states)
    end
    for i = 1, count_limits do
      if changed and changed[i] then
        states[i] = changed[i][1]
        unsaved[first + i - 1] = changed[i]
      end
    end
  end
end
for index, change in pairs(unsaved) do save(KEYS[index], change[1], change[2]) end
return replies
