-- What stands between a buyer and these SKUs. Waits for others who are releasing the same: to
-- skip them would be to say "sold out" while the stock is on its way back.
UPDATE reservations SET state = 3
WHERE state = 0 AND id IN (
    SELECT id FROM reservations AS overdue
    WHERE state = 0 AND expires_at_ms <= inventory_now_ms()
      AND EXISTS (SELECT FROM reservation_lines WHERE reservation_id = overdue.id AND sku = ANY ($2::text[]))
    ORDER BY expires_at_ms, id
    LIMIT $1
    FOR UPDATE
)
RETURNING id::text
