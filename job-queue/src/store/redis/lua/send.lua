-- ARGV: now, queue, window, messages max, bytes max, ids max, then for each message:
-- id, lane, deduplication id or '', delay or '', bytes, content.
-- Answers for each: 0 id seq | 1 too many messages | 2 too many bytes | 3 too many ids
-- | 4 no group | 5 no deduplication id.
local q = open(ARGV[2])
if not q then return no_such_queue() end
local window, messages_max, bytes_max, ids_max =
    tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
settle(q)
if q.fifo then forget_old(q.own .. 'ids', now) end

local function send(id, lane, dedup_id, delay, bytes, content)
    local key
    if q.fifo then
        if lane == '.' then return {4} end
        if dedup_id == '' then return {5} end
        key = q.by_group and lane .. '\n' .. dedup_id or dedup_id
        local original = call('HGET', q.own .. 'ids', key)
        if original then return {0, original:sub(18), original:sub(1, 16)} end
    end
    if call('ZCARD', q.base .. 'age') >= messages_max then return {1} end
    if number(call('HGET', q.base .. 'n', 'bytes')) + bytes > bytes_max then return {2} end
    local seq = next_number('seq')
    if key then
        if call('HLEN', q.own .. 'ids') >= ids_max then return {3} end
        call('HSET', q.own .. 'ids', key, seq .. ' ' .. id)
        call('ZADD', q.own .. 'ids:age', now + window, key)
    end
    local till = now + (tonumber(delay) or number(q.delay))
    if q.fifo then
        -- Nobody is ready before those sent earlier.
        till = math.max(till, number(call('HGET', q.base .. 'n', 'delayed_until')))
    end
    if till > now and q.fifo then call('HSET', q.base .. 'n', 'delayed_until', till) end
    insert(q, {seq = seq, id = id, content = content, sent = now, receives = 0, epoch = 0,
        first = 0, phase = till > now and '1' or '0', till = till, since = 0, lane = lane,
        source = '', bytes = bytes})
    return {0, id, seq}
end

local answers = {}
for i = 7, #ARGV, 6 do
    answers[#answers + 1] =
        send(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], tonumber(ARGV[i + 4]), ARGV[i + 5])
end
tell(q)
return answers
