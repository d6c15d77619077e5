-- ARGV: now, queue, max, visibility or '', attempt or '', in flight max, dead letters per receive,
-- window, attempts max. Answers deliveries.
local q = open(ARGV[2])
if not q then return no_such_queue() end
local max, attempt, dead_max = tonumber(ARGV[3]), ARGV[5], tonumber(ARGV[7])
local till = now + (tonumber(ARGV[4]) or number(q.visibility))
settle(q)

-- What this attempt got before, with its leases renewed, if it still holds all of it.
local function replay()
    forget_old(q.own .. 'attempts', now)
    local had = call('HGET', q.own .. 'attempts', attempt)
    if not had or had == '' then return nil end
    local deliveries = {}
    for seq, epoch in had:gmatch('(%d+)/(%d+)') do
        local m = get(q, seq)
        if not m or m.phase ~= '2' or m.epoch ~= tonumber(epoch) then return nil end
        deliveries[#deliveries + 1] = delivery(q, m)
    end
    for _, it in ipairs(deliveries) do
        call('HSET', q.base .. 'm:' .. it[2], 'u', till)
        call('ZADD', q.base .. 'due', till, it[2])
    end
    return deliveries
end

local function remember(deliveries)
    local held = {}
    for _, it in ipairs(deliveries) do held[#held + 1] = it[2] .. '/' .. it[3] end
    local key = q.own .. 'attempts'
    call('HSET', key, attempt, table.concat(held, ' '))
    call('ZADD', key .. ':age', now + tonumber(ARGV[8]), attempt)
    if call('HLEN', key) > tonumber(ARGV[9]) then
        call('HDEL', key, call('ZPOPMIN', key .. ':age')[1])
    end
end

if attempt ~= '' then
    local again = replay()
    if again then
        tell(q)
        return again
    end
end
if number(call('HGET', q.base .. 'n', 'in_flight')) >= tonumber(ARGV[6]) then
    if q.fifo then return {} end
    return redis.error_reply('JQ429 too many messages are in flight')
end
local dead = q.dead and q.dead ~= '' and open(q.dead) or nil
local receives_max = dead and tonumber(q.receives_max) or math.huge
local deliveries, buried = {}, 0

-- FIFO: as many as possible from one group. Standard: one from each tenant in turn.
local function lease_from(lane, share)
    local leased = 0
    while leased < share and buried < dead_max do
        local m = take(q, lane)
        if not m then return end
        if m.sent + number(q.retention) <= now then
            forget(q, m)
        elseif m.receives >= receives_max then
            forget(q, m)
            accept(dead, m, q.name)
            buried = buried + 1
        else
            m.receives, m.epoch = m.receives + 1, m.epoch + 1
            if m.receives == 1 then m.first = now end
            call('HSET', q.base .. 'm:' .. m.seq, 'r', m.receives, 'e', m.epoch, 'f', m.first,
                'p', '2', 'u', till, 'b', now)
            call('ZADD', q.base .. 'due', till, m.seq)
            count_lease(q, m, 1)
            deliveries[#deliveries + 1] = delivery(q, m)
            leased = leased + 1
        end
    end
end

while #deliveries < max and buried < dead_max do
    local lane = next_lane(q)
    if not lane then break end
    lease_from(lane, q.fifo and max - #deliveries or 1)
    offer(q, lane)
end
if attempt ~= '' then remember(deliveries) end
tell(q)
if dead then tell(dead) end
return deliveries
