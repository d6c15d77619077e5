SELECT c.members_version, m.member FROM conversations AS c
LEFT JOIN members AS m ON m.conversation = c.id
WHERE c.id = $1;
