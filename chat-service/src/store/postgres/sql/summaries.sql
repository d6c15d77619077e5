-- One row per conversation, with the other of two people and the newest message looked up by key.
SELECT m.conversation, c.title, c.member_count, c.last_seq, m.read_seq,
       c.last_seq - m.read_seq - (m.sent - m.sent_up_to_read),
       greatest(m.visible_after, coalesce(d.seq, 0)),
       other.member, newest.seq, newest.sender, newest.client_id, newest.at_ms, newest.kind,
       newest.text
FROM (
    SELECT * FROM members WHERE member = $1 AND conversation > $3
    ORDER BY conversation LIMIT $4
) AS m
JOIN conversations AS c ON c.id = m.conversation
LEFT JOIN LATERAL (
    SELECT seq FROM cursors AS u
    WHERE u.owner = $1 AND u.device = $2 AND u.conversation = m.conversation LIMIT 1
) AS d ON true
LEFT JOIN LATERAL (
    SELECT o.member FROM members AS o
    WHERE c.admin IS NULL AND o.conversation = m.conversation AND o.member <> $1 LIMIT 1
) AS other ON true
LEFT JOIN LATERAL (
    SELECT * FROM messages AS n
    WHERE n.conversation = m.conversation AND n.seq = c.last_seq AND n.seq > m.visible_after
    LIMIT 1
) AS newest ON true
ORDER BY m.conversation;
