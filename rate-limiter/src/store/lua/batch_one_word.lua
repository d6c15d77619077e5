-- Many callers of one GCRA limit whose state is one whole number, the microsecond at which it
-- settles; see store/redis/one_word.rs. Does what batch.lua does, for checks of one cost, with one
-- command that reads all states and one each that changes them. Needs gcra.lua and
-- expiry_sliced.lua.
--   KEYS        the state of each caller
--   ARGV[1..4]  name, a, b, limit; a is 1
--   ARGV[5]     what each check costs; at most the limit
--   ARGV[6]     how many numbers follow
--   ARGV[6+i]   how many checks of caller i; those of the last callers are left out where they are 1
-- Returns for each caller, flat: in how many microseconds it has settled after its checks, and
-- where not all of them were allowed, before that: -1 minus how many were.
local limit = limits_from(1, 1)[1]
local capacity_us = limit[3] * limit[4]
local charge_us = limit[3] * tonumber(ARGV[5])
local now = now_us()
local latest = now + capacity_us
local unknown = math.max(tonumber(unseen(limit) or now), now)
local told = tonumber(ARGV[6])
local floor, format, tonumber = math.floor, string.format, tonumber
local keys, counts, states = KEYS, ARGV, load_all()
local replies, n = {}, 0
for i = 1, #keys do
  local before = states[i] and tonumber(states[i])
  local count = i <= told and tonumber(counts[i + 6]) or 1
  local settled = before or unknown
  if settled < now then settled = now end
  -- Below zero when the clock went backwards.
  local allowed = floor((latest - settled) / charge_us)
  if allowed < count then
    if allowed < 0 then allowed = 0 end
    n = n + 1
    replies[n] = -1 - allowed
  else
    allowed = count
  end
  if allowed > 0 then
    settled = settled + allowed * charge_us
    -- In the slice in which it settled before: its expiry is right as it is.
    if before and floor(before / SLICE_US) == floor(settled / SLICE_US) then
      add(keys[i], settled - before)
    else
      save_settled_at(keys[i], format('%d', settled), settled)
    end
  end
  n = n + 1
  replies[n] = settled - now
end
return replies
