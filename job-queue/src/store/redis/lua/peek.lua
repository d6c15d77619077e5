-- ARGV: now, queue, sent at, seq, how many. Answers for each: seq, id, sent at, receives, phase,
-- until, since, source, content.
local q = open(ARGV[2])
if not q then return no_such_queue() end
local after, seq_after, limit = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5])
local seen, offset = {}, 0
while #seen < limit do
    local page = call('ZRANGEBYSCORE', q.base .. 'age', after, '+inf', 'LIMIT', offset, limit)
    if #page == 0 then break end
    offset = offset + #page
    for _, seq in ipairs(page) do
        local m = get(q, seq)
        -- Those sent in the same millisecond, up to the one to begin after.
        if #seen < limit and not (m.sent == after and seq <= seq_after) then
            seen[#seen + 1] = {m.seq, m.id, m.sent, m.receives, tonumber(m.phase), m.till,
                m.since, m.source, m.content}
        end
    end
end
return seen
