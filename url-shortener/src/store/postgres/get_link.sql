SELECT id, code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
       redirect, tags, unlisted
FROM links
WHERE code = $1 AND owner = $2 AND state <> 2
