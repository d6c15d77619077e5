-- As since.sql, in the other direction.
SELECT t.seq, t.sender, t.client_id, t.at_ms, t.kind, t.text
FROM members
LEFT JOIN LATERAL (
    SELECT s.*, sum(greatest(octet_length(s.text), 1)) OVER (ORDER BY s.seq DESC)
        - greatest(octet_length(s.text), 1) AS before
    FROM (
        SELECT seq, sender, client_id, at_ms, kind, text FROM messages
        WHERE messages.conversation = $1 AND seq > members.visible_after AND seq < $3
        ORDER BY seq DESC LIMIT $4
    ) AS s
) AS t ON t.before <= $5
WHERE members.conversation = $1 AND members.member = $2
ORDER BY t.seq DESC;
