-- No row comes back when this writer already committed this batch.
INSERT INTO click_writers VALUES ($1, $2)
ON CONFLICT (writer) DO UPDATE SET number = excluded.number
WHERE click_writers.number < excluded.number
RETURNING number
