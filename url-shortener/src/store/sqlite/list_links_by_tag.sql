SELECT id, code, version, state, target, links.owner, created_at_ms, expires_at_ms, max_visits,
       redirect, tags, unlisted
FROM link_tags JOIN links ON links.id = link_tags.link_id
WHERE link_tags.owner = ?1 AND link_tags.tag = ?5 AND link_tags.link_id < ?2 AND state <> 2
  AND (?3 IS NULL OR instr(lower(code), ?3) > 0 OR instr(lower(target), ?3) > 0)
ORDER BY link_tags.link_id DESC
LIMIT ?4
