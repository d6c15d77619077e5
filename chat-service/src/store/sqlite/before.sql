SELECT seq, sender, client_id, at_ms, kind, text FROM messages
WHERE conversation = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4;
