-- Messages in order of age, after a position; nothing is leased.
SELECT m.seq, m.id, m.sent_at_ms, m.receives, m.phase, m.until_ms, m.since_ms, m.source, m.content
FROM messages AS m
WHERE m.queue = (SELECT number FROM queues WHERE region = $1 AND name = $2)
    AND (m.sent_at_ms, m.seq) > ($3, $4)
ORDER BY m.sent_at_ms, m.seq LIMIT $5
