-- Every number twice: as counted, and as added up from what was recorded.
SELECT stock.sku, stock.available, stock.held, stock.sold,
       (SELECT coalesce(sum(delta), 0) FROM receipts WHERE receipts.sku = stock.sku),
       coalesce(lines.held, 0), coalesce(lines.sold, 0)
FROM stock
LEFT JOIN (
    SELECT line.sku,
           sum(CASE WHEN state = 0 THEN quantity ELSE 0 END) AS held,
           sum(CASE WHEN state = 1 THEN quantity ELSE 0 END) AS sold
    FROM reservation_lines AS line
    JOIN reservations ON reservations.id = line.reservation_id
    GROUP BY line.sku
) AS lines ON lines.sku = stock.sku
ORDER BY stock.sku;
