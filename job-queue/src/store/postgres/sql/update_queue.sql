UPDATE queues SET settings = $3, visibility_timeout_ms = $4, delay_ms = $5, retention_ms = $6,
    is_fifo = $7, dedup_by_group = $8, dead_region = $9, dead_name = $10, receives_max = $11
WHERE region = $1 AND name = $2
