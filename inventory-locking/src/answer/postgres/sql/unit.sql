-- One unit in one statement: write the reservation down, claim the first free row from $5 on that
-- nobody else has locked, and record which. None free raises an error, which undoes everything.
-- It names the partition, has no LIMIT to be filled in, and finds the claimed row by its place:
-- so Postgres plans it once for each connection, and not each time, which takes longer than to run
-- it.
WITH made AS (
    INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
    SELECT $1::uuid, 0, $2, $3, now_ms, now_ms + $3 FROM (SELECT inventory_now_ms() AS now_ms) AS clock
    ON CONFLICT DO NOTHING
    RETURNING granted_at_ms
), claim AS MATERIALIZED (
    SELECT ctid AS place FROM stock_units
    WHERE sku = $4 AND slot >= $5 AND available = 1 AND EXISTS (SELECT FROM made)
    ORDER BY slot
    LIMIT 1
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE stock_units SET available = 0, held = 1, version = version + 1
    WHERE ctid = (SELECT place FROM claim)
    RETURNING slot
), lines AS (
    INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
    SELECT $1::uuid, $4, slot, 1 FROM taken
)
SELECT CASE WHEN EXISTS (SELECT FROM taken) THEN granted_at_ms ELSE inventory_refuse() END
FROM made
