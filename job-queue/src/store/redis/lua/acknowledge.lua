-- ARGV: now, queue, 'delete' or 'hide', the longest lease, then for each receipt: queue number,
-- seq, epoch, ms. Answers for each: outcome, how long the lease lasted or -1.
-- outcome: 0 done or gone already, 1 not of this queue, 2 stale, 3 expired, 4 not in flight,
-- 5 beyond 12 hours.
local q = open(ARGV[2])
if not q then return no_such_queue() end
settle(q)

local function delete(n, seq, epoch)
    local outcome, m = named_by(q, n, seq, epoch)
    if not m then return {outcome, -1} end
    -- A late worker may still say "done" on a standard queue, as long as nobody else has begun.
    -- On a FIFO queue the next in line may have: its order is gone.
    if q.fifo and m.phase ~= '2' then return {3, -1} end
    forget(q, m)
    return {0, m.phase == '2' and now - m.since or -1}
end

local function hide(n, seq, epoch, ms)
    local outcome, m = named_by(q, n, seq, epoch)
    if outcome == 0 or m and m.phase ~= '2' then return {4, -1} end
    if not m then return {outcome, -1} end
    if now + ms > m.since + tonumber(ARGV[4]) then return {5, -1} end
    call('HSET', q.base .. 'm:' .. seq, 'u', now + ms)
    call('ZADD', q.base .. 'due', now + ms, seq)
    if ms == 0 then make_ready(q, m) end
    return {0, -1}
end

local answers = {}
for i = 5, #ARGV, 4 do
    local work = ARGV[3] == 'delete' and delete or hide
    answers[#answers + 1] = work(ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3]))
end
tell(q)
return answers
