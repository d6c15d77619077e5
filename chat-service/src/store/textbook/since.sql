-- The next page after the last timestamp seen. What shares that timestamp is never shown.
SELECT sender, at_ms, text FROM history
WHERE ((sender = ?1 AND receiver = ?2) OR (sender = ?2 AND receiver = ?1)) AND at_ms > ?3
ORDER BY at_ms LIMIT ?4;
