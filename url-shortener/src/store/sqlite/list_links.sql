SELECT id, code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
       redirect, tags, unlisted
FROM links
WHERE owner = ?1 AND id < ?2 AND state <> 2
  AND (?3 IS NULL OR instr(lower(code), ?3) > 0 OR instr(lower(target), ?3) > 0)
ORDER BY id DESC
LIMIT ?4
