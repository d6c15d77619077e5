-- A reservation of one line in one statement: write it down, claim free units that nobody else
-- has locked, and record which. Too few free units raise an error, which undoes everything.
WITH made AS (
    INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
    SELECT $1::uuid, 0, $2, $3, now_ms, now_ms + $3 FROM (SELECT inventory_now_ms() AS now_ms) AS clock
    ON CONFLICT DO NOTHING
    RETURNING granted_at_ms
), claim AS MATERIALIZED (
    SELECT slot FROM stock
    WHERE sku = $4 AND slot >= 1000 AND available = 1 AND EXISTS (SELECT FROM made)
    ORDER BY slot
    LIMIT $5
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE stock SET available = 0, held = 1, version = version + 1
    FROM claim WHERE stock.sku = $4 AND stock.slot = claim.slot AND stock.slot >= 1000
    RETURNING stock.slot
), lines AS (
    INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
    SELECT $1::uuid, $4, slot, 1 FROM taken
)
SELECT CASE WHEN (SELECT count(*) FROM taken) = $5 THEN granted_at_ms ELSE inventory_refuse() END
FROM made
