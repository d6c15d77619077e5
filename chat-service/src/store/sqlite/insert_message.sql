INSERT INTO messages (conversation, seq, sender, client_id, at_ms, kind, text)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);
