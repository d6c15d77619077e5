-- Sells ($2) or gives back what reservations hold. The rows are locked in the order in which
-- everybody locks them; an UPDATE alone would lock them in the order of its plan.
WITH lines AS (
    SELECT sku, slot, sum(quantity)::bigint AS quantity
    FROM reservation_lines WHERE reservation_id = ANY ($1::text[]::uuid[])
    GROUP BY sku, slot
), locked AS MATERIALIZED (
    SELECT stock.sku, stock.slot, lines.quantity
    FROM stock JOIN lines USING (sku, slot)
    ORDER BY stock.sku, stock.slot
    FOR UPDATE OF stock
)
UPDATE stock
SET held = stock.held - locked.quantity,
    sold = stock.sold + CASE WHEN $2 THEN locked.quantity ELSE 0 END,
    available = stock.available + CASE WHEN $2 THEN 0 ELSE locked.quantity END,
    version = stock.version + 1
FROM locked
WHERE stock.sku = locked.sku AND stock.slot = locked.slot
