INSERT INTO members (conversation, user, visible_after, delivered, read_seq)
VALUES (?1, ?2, ?3, ?3, ?3);
