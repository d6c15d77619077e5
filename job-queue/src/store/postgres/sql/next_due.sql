-- When the next delay or lease of the queue ends.
SELECT m.until_ms FROM messages AS m
WHERE m.queue = (SELECT number FROM queues WHERE region = $1 AND name = $2) AND m.phase <> 0
ORDER BY m.until_ms LIMIT 1
