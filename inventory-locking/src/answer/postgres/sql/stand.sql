-- What is available, the time, and when the next hold runs out, if that is within $2. One
-- statement, so one snapshot.
SELECT count(*), coalesce(sum(available), 0)::bigint, inventory_now_ms(),
       (SELECT min(expires_at_ms) FROM reservations JOIN reservation_lines ON reservation_id = id
        WHERE state = 0 AND expires_at_ms < inventory_now_ms() + $2 AND reservation_lines.sku = $1)
FROM stock WHERE sku = $1
