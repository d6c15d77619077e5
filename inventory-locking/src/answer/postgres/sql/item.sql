SELECT count(*), coalesce(sum(available), 0)::bigint, coalesce(sum(held), 0)::bigint,
       coalesce(sum(sold), 0)::bigint, coalesce(sum(version), 0)::bigint,
       (SELECT count(*) FROM reservations JOIN reservation_lines ON reservation_id = id
        WHERE state = 0 AND expires_at_ms <= inventory_now_ms() AND reservation_lines.sku = $1)
FROM stock WHERE sku = $1
