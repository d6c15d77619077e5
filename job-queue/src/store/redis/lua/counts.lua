-- ARGV: now, queue. Answers ready, in flight, delayed, when the oldest was sent or -1.
local q = open(ARGV[2])
if not q then return no_such_queue() end
settle(q)
tell(q)
local n = call('HMGET', q.base .. 'n', 'in_flight', 'delayed')
local in_flight, delayed = number(n[1]), number(n[2])
local oldest = call('ZRANGE', q.base .. 'age', 0, 0, 'WITHSCORES')
return {call('ZCARD', q.base .. 'age') - in_flight - delayed, in_flight, delayed,
    oldest[2] and tonumber(oldest[2]) or -1}
