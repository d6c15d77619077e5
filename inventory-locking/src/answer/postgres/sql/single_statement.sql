-- A whole reservation in one statement: one round trip, one implicit transaction, and the hot
-- rows are locked last. An answer that is short raises an error, which undoes the insert.
WITH made AS (
    INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
    SELECT $1::uuid, 0, $2, $3, now_ms, now_ms + $3 FROM (SELECT inventory_now_ms() AS now_ms) AS clock
    ON CONFLICT DO NOTHING
    RETURNING granted_at_ms
), wanted AS (
    SELECT sku, quantity FROM unnest($4::text[], $5::bigint[]) AS line (sku, quantity)
    WHERE EXISTS (SELECT FROM made)
), lines AS (
    INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
    SELECT $1::uuid, sku, 0, quantity FROM wanted
), locked AS MATERIALIZED (
    SELECT stock.sku, wanted.quantity FROM stock JOIN wanted USING (sku)
    WHERE stock.slot = 0
    ORDER BY stock.sku
    FOR UPDATE OF stock
), taken AS (
    UPDATE stock
    SET available = stock.available - locked.quantity, held = stock.held + locked.quantity,
        version = stock.version + 1
    FROM locked
    WHERE stock.sku = locked.sku AND stock.slot = 0 AND stock.available >= locked.quantity
    RETURNING stock.sku
)
SELECT CASE WHEN (SELECT count(*) FROM taken) = cardinality($4::text[])
            THEN granted_at_ms ELSE inventory_refuse() END
FROM made
