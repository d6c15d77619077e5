-- One atomic step for all limits of a policy. Needs decide.lua before it.
--   KEYS[i]   the state of limit i; all in one cluster slot, by their hash tag
--   ARGV[1]   check | peek | take | refund
--   ARGV[2]   cost; for take the most to take, for refund what to give back
--   ARGV[3 + 4(i-1)] ...   algorithm and parameters of limit i: name, a, b, limit
-- Returns the reply of decide.lua.
local limits, states = limits_from(3, #KEYS), {}
for i = 1, #KEYS do states[i] = load(KEYS[i]) or unseen(limits[i]) end
local reply, changed = decide(ARGV[1], tonumber(ARGV[2]), limits, states, now_us())
if changed then
  for i = 1, #KEYS do
    if changed[i] then save(KEYS[i], changed[i][1], changed[i][2]) end
  end
end
return reply
