-- What the sweeper takes: whoever sweeps at the same time takes other ones.
UPDATE reservations SET state = 3
WHERE id IN (
    SELECT id FROM reservations
    WHERE state = 0 AND expires_at_ms <= inventory_now_ms()
    ORDER BY expires_at_ms, id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)
RETURNING id::text
