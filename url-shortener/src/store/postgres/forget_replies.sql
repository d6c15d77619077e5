-- SKIP LOCKED: several servers do this chore at once, and none has to wait for another.
DELETE FROM replies
WHERE (owner, key) IN (
    SELECT owner, key FROM replies
    WHERE created_at_ms < $1
    LIMIT $2
    FOR UPDATE SKIP LOCKED
)
