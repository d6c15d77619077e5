-- No row changes when the code is taken: the constraint decides, not a check before it.
-- Trap: RETURNING id would make SQLite copy every page it touches, in case the statement fails
-- half way; last_insert_rowid() is there anyway.
INSERT INTO links (code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
                   redirect, tags, unlisted)
VALUES (?1, 1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (code) DO NOTHING
