-- A whole batch in one statement: one round trip, one implicit transaction, the hot rows last and
-- once. A key or an id that is there already makes nothing and takes nothing; what was made is
-- told, so whoever is missing is a repeat. A SKU that is short undoes everything.
WITH clock AS MATERIALIZED (
    SELECT inventory_now_ms() AS now_ms
), made AS (
    INSERT INTO reservations (id, state, key, ttl_ms, granted_at_ms, expires_at_ms)
    SELECT id::uuid, 0, key, ttl_ms, now_ms, now_ms + ttl_ms
    FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wish (id, key, ttl_ms), clock
    ON CONFLICT DO NOTHING
    RETURNING id
), wanted AS MATERIALIZED (
    SELECT line.id::uuid AS id, line.sku, line.quantity
    FROM unnest($4::text[], $5::text[], $6::bigint[]) AS line (id, sku, quantity)
    WHERE line.id::uuid IN (SELECT id FROM made)
), lines AS (
    INSERT INTO reservation_lines (reservation_id, sku, slot, quantity)
    SELECT id, sku, 0, quantity FROM wanted
), sums AS (
    SELECT sku, sum(quantity)::bigint AS quantity FROM wanted GROUP BY sku
), locked AS MATERIALIZED (
    SELECT stock.sku, sums.quantity FROM stock JOIN sums USING (sku)
    WHERE stock.slot = 0
    ORDER BY stock.sku
    FOR UPDATE OF stock
), taken AS (
    UPDATE stock
    SET available = stock.available - locked.quantity, held = stock.held + locked.quantity,
        version = stock.version + 1
    FROM locked
    WHERE stock.sku = locked.sku AND stock.slot = 0 AND stock.available >= locked.quantity
    RETURNING stock.sku, stock.available
), made_all AS (
    SELECT array_agg(id::text) AS ids FROM made
), left_over AS (
    SELECT array_agg(sku) AS skus, array_agg(available) AS available FROM taken
)
SELECT CASE WHEN coalesce(cardinality(skus), 0) = (SELECT count(*) FROM sums)
            THEN now_ms ELSE inventory_refuse() END,
       coalesce(ids, '{}'), coalesce(skus, '{}'), coalesce(available, '{}')
FROM clock, made_all, left_over
