SELECT conversation, seq, at_ms, kind, text FROM messages WHERE sender = ?1 AND client_id = ?2;
