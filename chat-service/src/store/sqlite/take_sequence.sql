-- Only a member takes a sequence: a stranger's attempt leaves no hole.
UPDATE conversations SET last_seq = last_seq + 1
WHERE id = ?1 AND EXISTS (SELECT 1 FROM members WHERE conversation = ?1 AND user = ?2)
RETURNING last_seq, members_version;
