SELECT c.id, c.title, c.admin IS NULL, c.member_count, c.last_seq, m.read_seq,
       c.last_seq - m.read_seq - (m.sent - m.sent_up_to_read),
       max(m.visible_after, coalesce(d.seq, 0)), m.visible_after
FROM members m
JOIN conversations c ON c.id = m.conversation
LEFT JOIN cursors d ON d.user = m.user AND d.device = ?2 AND d.conversation = m.conversation
WHERE m.user = ?1 AND m.conversation > ?3
ORDER BY m.conversation LIMIT ?4;
