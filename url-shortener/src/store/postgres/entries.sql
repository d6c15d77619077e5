SELECT id, version, state, redirect, max_visits IS NOT NULL, expires_at_ms, code, target,
       changed_at_us
FROM links
WHERE ($1::bigint IS NULL OR id >= $1) AND ($2::bigint IS NULL OR id <= $2)
  AND ($3::bigint IS NULL OR changed_at_us >= $3) AND ($4::text IS NULL OR code = $4)
