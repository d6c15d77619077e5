-- Every number twice: as counted, and as added up from what was recorded. One statement, so one
-- snapshot.
SELECT stock.sku, stock.available, stock.held, stock.sold,
       coalesce(receipts.received, 0), coalesce(lines.held, 0), coalesce(lines.sold, 0),
       (SELECT count(*) FROM reservations WHERE state = 0 AND expires_at_ms <= inventory_now_ms())
FROM (SELECT sku, sum(available)::bigint AS available, sum(held)::bigint AS held, sum(sold)::bigint AS sold
      FROM stock GROUP BY sku) AS stock
LEFT JOIN (SELECT sku, sum(delta)::bigint AS received FROM receipts GROUP BY sku) AS receipts USING (sku)
LEFT JOIN (SELECT line.sku,
                  sum(CASE WHEN state = 0 THEN quantity ELSE 0 END)::bigint AS held,
                  sum(CASE WHEN state = 1 THEN quantity ELSE 0 END)::bigint AS sold
           FROM reservation_lines AS line JOIN reservations ON id = reservation_id
           GROUP BY line.sku) AS lines USING (sku)
ORDER BY stock.sku
