UPDATE links
SET version = $2, state = $3, target = $4, expires_at_ms = $5, max_visits = $6, redirect = $7,
    tags = $8, changed_at_us = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
WHERE id = $1
