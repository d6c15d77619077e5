-- A conversation has two directions, so one index over one direction cannot give it in order.
SELECT sender, at_ms, text FROM history
WHERE (sender = ?1 AND receiver = ?2) OR (sender = ?2 AND receiver = ?1)
ORDER BY at_ms DESC LIMIT ?3;
