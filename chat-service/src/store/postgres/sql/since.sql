-- No row: not a member. A row without a message: nothing there. `before` is what the page weighs
-- without the message, so that what would not fit is not sent at all.
SELECT t.seq, t.sender, t.client_id, t.at_ms, t.kind, t.text
FROM members
LEFT JOIN LATERAL (
    SELECT s.*, sum(greatest(octet_length(s.text), 1)) OVER (ORDER BY s.seq)
        - greatest(octet_length(s.text), 1) AS before
    FROM (
        SELECT seq, sender, client_id, at_ms, kind, text FROM messages
        WHERE messages.conversation = $1 AND seq > greatest($3, members.visible_after)
        ORDER BY seq LIMIT $4
    ) AS s
) AS t ON t.before <= $5
WHERE members.conversation = $1 AND members.member = $2
ORDER BY t.seq;
