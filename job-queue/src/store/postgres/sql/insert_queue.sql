INSERT INTO queues (region, name, settings, visibility_timeout_ms, delay_ms, retention_ms, is_fifo,
    dedup_by_group, dead_region, dead_name, receives_max)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (region, name) DO NOTHING
