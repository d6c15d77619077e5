SELECT id, code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
       redirect, tags, unlisted
FROM links
WHERE owner = $1 AND id < $2 AND state <> 2
  AND ($3::text IS NULL OR $3 = ANY (tags))
  AND ($4::text IS NULL OR position($4 IN lower(code)) > 0 OR position($4 IN lower(target)) > 0)
ORDER BY id DESC
LIMIT $5
