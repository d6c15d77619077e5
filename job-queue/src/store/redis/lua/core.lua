-- The core of state.rs once more, over Redis's own structures. Put before every operation; Redis
-- runs the whole script without anything in between, which is all the locking there is.
--
-- KEYS[1] is the tag that keeps all keys in one slot of a cluster. ARGV[1] is the time.
--
--   names                region \n name -> the queue's number, never reused
--   list:REGION          names in order
--   last                 the last number of a queue, message, turn and attempt
--   N:set                the queue's settings and its generation
--   N:ids, N:ids:age     deduplication ids; they outlive their messages
--   N:attempts, ...:age  receive attempts
--   N:G:...              everything that a purge empties, by beginning a new generation G:
--     n                  how many are in flight and delayed, how many bytes
--     m:SEQ              a message
--     age, due           who is oldest, whose time comes first
--     r:LANE, turn       ready messages of a lane; open lanes that have any, in turn
--     leased             FIFO: how many of each lane are in a consumer's hands

local call = redis.call
local P = KEYS[1] .. ':'
local now = tonumber(ARGV[1])
-- What is due and old is dealt with in bounded steps: a script stops everybody.
local SETTLE_MAX = 1000

local function number(text) return tonumber(text or 0) or 0 end

-- Sixteen digits, so that numbers sort as text.
local function next_number(what)
    return string.format('%016.0f', call('HINCRBY', P .. 'last', what, 1))
end

local FIELDS = {'visibility', 'delay', 'retention', 'fifo', 'by_group', 'dead', 'receives_max',
    'purged_at', 'generation', 'json'}

-- The queue, or nil.
local function open(name)
    local n = call('HGET', P .. 'names', name)
    if not n then return nil end
    local values = call('HMGET', P .. n .. ':set', unpack(FIELDS))
    local q = {n = n, name = name, news = 0}
    for i, field in ipairs(FIELDS) do q[field] = values[i] end
    q.fifo, q.by_group = q.fifo == '1', q.by_group == '1'
    q.own = P .. n .. ':'
    q.base = q.own .. q.generation .. ':'
    return q
end

local function no_such_queue() return redis.error_reply('JQ404 no such queue') end

-- Tells every server how many consumers have something to do.
local function tell(q)
    if q.news > 0 then call('PUBLISH', P .. 'news', q.news .. '\n' .. q.name) end
end

local function get(q, seq)
    local v = call('HMGET', q.base .. 'm:' .. seq,
        'i', 'c', 's', 'r', 'e', 'f', 'p', 'u', 'b', 'l', 'd', 'z')
    if not v[1] then return nil end
    return {seq = seq, id = v[1], content = v[2], sent = number(v[3]), receives = number(v[4]),
        epoch = number(v[5]), first = number(v[6]), phase = v[7], till = number(v[8]),
        since = number(v[9]), lane = v[10], source = v[11], bytes = number(v[12])}
end

-- Gives an open lane that has something ready a place in the turn.
local function offer(q, lane)
    local is_open = not q.fifo or number(call('HGET', q.base .. 'leased', lane)) == 0
    if is_open and call('ZCARD', q.base .. 'r:' .. lane) > 0
        and not call('ZSCORE', q.base .. 'turn', lane) then
        call('ZADD', q.base .. 'turn', call('HINCRBY', P .. 'last', 'turn', 1), lane)
        if q.fifo then q.news = q.news + 1 end
    end
end

local function put(q, m)
    call('ZADD', q.base .. 'r:' .. m.lane, m.seq, m.seq)
    if not q.fifo then q.news = q.news + 1 end
    offer(q, m.lane)
end

-- One message more or less in a consumer's hands.
local function count_lease(q, m, by)
    call('HINCRBY', q.base .. 'n', 'in_flight', by)
    if q.fifo and call('HINCRBY', q.base .. 'leased', m.lane, by) == 0 then
        call('HDEL', q.base .. 'leased', m.lane)
    end
end

local function insert(q, m)
    call('HSET', q.base .. 'm:' .. m.seq, 'i', m.id, 'c', m.content, 's', m.sent, 'r', m.receives,
        'e', m.epoch, 'f', m.first, 'p', m.phase, 'u', m.till, 'b', m.since, 'l', m.lane,
        'd', m.source, 'z', m.bytes)
    call('ZADD', q.base .. 'age', m.sent, m.seq)
    call('HINCRBY', q.base .. 'n', 'bytes', m.bytes)
    if m.phase == '1' then
        call('ZADD', q.base .. 'due', m.till, m.seq)
        call('HINCRBY', q.base .. 'n', 'delayed', 1)
    else
        put(q, m)
    end
end

local function forget(q, m)
    call('DEL', q.base .. 'm:' .. m.seq)
    call('ZREM', q.base .. 'age', m.seq)
    call('HINCRBY', q.base .. 'n', 'bytes', -m.bytes)
    if m.phase == '0' then
        call('ZREM', q.base .. 'r:' .. m.lane, m.seq)
        return
    end
    call('ZREM', q.base .. 'due', m.seq)
    if m.phase == '1' then
        call('HINCRBY', q.base .. 'n', 'delayed', -1)
    else
        count_lease(q, m, -1)
        offer(q, m.lane)
    end
end

-- Takes in a message from another queue: it keeps identity and epoch and begins anew as to
-- receives; on a standard queue it keeps its age, so that nothing lives for ever by moving.
local function accept(q, m, source)
    insert(q, {seq = next_number('seq'), id = m.id, content = m.content,
        sent = q.fifo and now or m.sent, receives = 0, epoch = m.epoch, first = 0, phase = '0',
        till = 0, since = 0, lane = m.lane, source = source, bytes = m.bytes})
end

local function make_ready(q, m)
    if m.phase == '1' then
        call('HINCRBY', q.base .. 'n', 'delayed', -1)
    else
        count_lease(q, m, -1)
    end
    call('ZREM', q.base .. 'due', m.seq)
    call('HSET', q.base .. 'm:' .. m.seq, 'p', '0')
    m.phase = '0'
    put(q, m)
end

-- Lets time have its effect.
local function settle(q)
    for _, seq in ipairs(call('ZRANGEBYSCORE', q.base .. 'due', '-inf', now,
        'LIMIT', 0, SETTLE_MAX)) do
        make_ready(q, get(q, seq))
    end
    for _, seq in ipairs(call('ZRANGEBYSCORE', q.base .. 'age', '-inf', now - number(q.retention),
        'LIMIT', 0, SETTLE_MAX)) do
        forget(q, get(q, seq))
    end
end

-- Forgets the oldest of a table with an index by age, up to this time.
local function forget_old(key, till)
    local old = call('ZRANGEBYSCORE', key .. ':age', '-inf', till, 'LIMIT', 0, SETTLE_MAX)
    if #old > 0 then
        call('HDEL', key, unpack(old))
        call('ZREM', key .. ':age', unpack(old))
    end
end

-- The lane whose turn it is.
local function next_lane(q)
    return call('ZPOPMIN', q.base .. 'turn')[1]
end

-- The lane's oldest ready message, out of its lane.
local function take(q, lane)
    local seq = call('ZPOPMIN', q.base .. 'r:' .. lane)[1]
    return seq and get(q, seq)
end

local function delivery(q, m)
    return {q.n, m.seq, m.epoch, m.id, m.receives, m.sent, m.first, m.source, m.content}
end

-- What a receipt says about a message: invalid, gone, stale, or the message.
local function named_by(q, n, seq, epoch)
    if n ~= q.n then return 1 end
    local m = get(q, seq)
    if not m then return 0 end
    if epoch > m.epoch then return 1 end
    if epoch < m.epoch then return 2 end
    return nil, m
end
