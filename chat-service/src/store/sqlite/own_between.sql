-- Asked only when a read cursor stops short of an own message; each message is counted once.
SELECT count(*) FROM messages
WHERE conversation = ?1 AND seq > ?2 AND seq <= ?3 AND sender = ?4;
