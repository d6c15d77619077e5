-- The first write of every attempt, before anything is taken. When the key or the id is there
-- already, it writes nothing; when another transaction is about to write the same, it waits for
-- that one to end. So a repeat, and an attempt after a lost COMMIT, cannot both have an effect.
WITH made AS (
    INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
    SELECT $1::uuid, 0, $2, $3, now_ms, now_ms + $3 FROM (SELECT inventory_now_ms() AS now_ms) AS clock
    ON CONFLICT DO NOTHING
    RETURNING granted_at_ms
), lines AS (
    INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
    SELECT $1::uuid, sku, 0, quantity FROM unnest($4::text[], $5::bigint[]) AS line (sku, quantity)
    WHERE EXISTS (SELECT FROM made)
)
SELECT granted_at_ms FROM made
