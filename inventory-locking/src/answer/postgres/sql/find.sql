SELECT r.id::text, r.state, r.key, r.ttl_ms, r.granted_at_ms, r.expires_at_ms,
       inventory_now_ms(),
       (SELECT array_agg(sku ORDER BY sku, slot) FROM reservation_lines WHERE reservation_id = r.id),
       (SELECT array_agg(quantity ORDER BY sku, slot) FROM reservation_lines WHERE reservation_id = r.id)
FROM reservations AS r
WHERE r.id = $1::uuid OR r.key = $2
ORDER BY r.key = $2 DESC NULLS LAST
LIMIT 1
