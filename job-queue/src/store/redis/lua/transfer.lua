-- ARGV: now, queue, destination or '', how many, messages max. Answers moved, failed.
local q = open(ARGV[2])
if not q then return no_such_queue() end
settle(q)
local stay, told, moved, failed = {}, {}, 0, 0
for _ = 1, tonumber(ARGV[4]) do
    local m
    while not m do
        local lane = next_lane(q)
        if not lane then break end
        m = take(q, lane)
        offer(q, lane)
    end
    if not m then break end
    forget(q, m)
    local name = ARGV[3] ~= '' and ARGV[3] or m.source
    local target = told[name] or open(name)
    if target and call('ZCARD', target.base .. 'age') < tonumber(ARGV[5]) then
        accept(target, m, '')
        told[name] = target
        moved = moved + 1
    else
        stay[#stay + 1] = m
        failed = failed + 1
    end
end
-- At the end of their lanes, out of the next step's way.
for _, m in ipairs(stay) do accept(q, m, m.source) end
for _, target in pairs(told) do tell(target) end
tell(q)
return {moved, failed}
