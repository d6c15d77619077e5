SELECT m.visible_after, m.delivered, m.read_seq, m.sent, m.sent_up_to_read, m.last_own,
       c.last_seq, c.members_version
FROM members m JOIN conversations c ON c.id = m.conversation
WHERE m.conversation = ?1 AND m.user = ?2;
