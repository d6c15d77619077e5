-- Many callers of one GCRA limit whose state is one whole number, the microsecond at which it
-- settles; see store/redis/one_word.rs. Does what batch.lua does, for checks of one cost, with one
-- command that reads all states and one each that changes them. Needs gcra.lua and
-- expiry_sliced.lua.
--   KEYS        the state of each caller
--   ARGV[1..4]  name, a, b, limit; a is 1
--   ARGV[5]     what each check costs; at most the limit
--   ARGV[5+i]   how many checks of caller i
-- Returns for each caller, flat: how many were allowed, and in how many microseconds it has settled
-- after that.
local limit = limits_from(1, 1)[1]
local capacity_us = limit[3] * limit[4]
local charge_us = limit[3] * tonumber(ARGV[5])
local now = now_us()
local latest = now + capacity_us
local unknown = math.max(tonumber(unseen(limit) or now), now)
local floor, min, tonumber = math.floor, math.min, tonumber
local keys, counts, states = KEYS, ARGV, load_all()
local replies = {}
for i = 1, #keys do
  local before = states[i] and tonumber(states[i])
  local settled = before or unknown
  if settled < now then settled = now end
  -- Below zero when the clock went backwards.
  local allowed = min(floor((latest - settled) / charge_us), tonumber(counts[i + 5]))
  if allowed > 0 then
    settled = settled + allowed * charge_us
    if before and slice(before) == slice(settled) then
      add(keys[i], settled - before)
    else
      save_settled_at(keys[i], string.format('%.0f', settled), settled)
    end
  else
    allowed = 0
  end
  replies[2 * i - 1], replies[2 * i] = allowed, settled - now
end
return replies
