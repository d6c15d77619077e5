-- Queues themselves. ARGV: now, queue, what, then what it needs.
local q, what = open(ARGV[2]), ARGV[3]
local region, name = ARGV[2]:match('^(.-)\n(.*)$')

-- visibility, delay, retention, fifo, by_group, dead, receives_max, json
local function put_settings(n, first)
    call('HSET', P .. n .. ':set', 'visibility', ARGV[first], 'delay', ARGV[first + 1],
        'retention', ARGV[first + 2], 'fifo', ARGV[first + 3], 'by_group', ARGV[first + 4],
        'dead', ARGV[first + 5], 'receives_max', ARGV[first + 6], 'json', ARGV[first + 7])
end

-- What is not seen any more is deleted later, in steps.
local function throw_away(base) call('RPUSH', P .. 'trash', base) end

if what == 'create' then
    if q then return q.json end
    if call('HLEN', P .. 'names') >= tonumber(ARGV[4]) then
        return redis.error_reply('JQ507 the store is full')
    end
    local n = tostring(call('HINCRBY', P .. 'last', 'queue', 1))
    call('HSET', P .. 'names', ARGV[2], n)
    call('ZADD', P .. 'list:' .. region, 0, name)
    put_settings(n, 5)
    call('HSET', P .. n .. ':set', 'generation', 0)
    return ''
end
if not q then return no_such_queue() end
if what == 'settings' then return q.json end
if what == 'configure' then
    -- Only what was read may be changed.
    if q.json ~= ARGV[4] then return 0 end
    put_settings(q.n, 5)
    return 1
end
if what == 'remove' then
    call('HDEL', P .. 'names', ARGV[2])
    call('ZREM', P .. 'list:' .. region, name)
    call('DEL', q.own .. 'set')
    call('UNLINK', q.own .. 'ids', q.own .. 'ids:age', q.own .. 'attempts',
        q.own .. 'attempts:age')
    throw_away(q.base)
    q.news = 1024
    tell(q)
    return 1
end
if what == 'purge' then
    if q.purged_at and now < tonumber(q.purged_at) + tonumber(ARGV[4]) then
        return redis.error_reply('JQ403 purged recently')
    end
    call('HSET', q.own .. 'set', 'purged_at', now, 'generation', number(q.generation) + 1)
    throw_away(q.base)
    return 1
end
