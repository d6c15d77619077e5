SELECT id, version, state, redirect, max_visits IS NOT NULL, expires_at_ms, code, target
FROM links
