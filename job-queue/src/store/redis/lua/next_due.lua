-- ARGV: now, queue. Answers when the next delay or lease ends, or -1.
local q = open(ARGV[2])
if not q then return -1 end
local first = call('ZRANGE', q.base .. 'due', 0, 0, 'WITHSCORES')
return first[2] and tonumber(first[2]) or -1
