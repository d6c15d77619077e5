-- Nothing comes back when the code is taken: the constraint decides, not a check before it.
INSERT INTO links (code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
                   redirect, tags, unlisted)
VALUES (?1, 1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (code) DO NOTHING
RETURNING id
