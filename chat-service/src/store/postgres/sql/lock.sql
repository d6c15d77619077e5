-- The rows under which sequences are allocated. In the order of their ids, in every transaction
-- of every server: two that want the same ones wait for each other, and never in a circle.
SELECT id, last_seq, members_version FROM conversations
WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE;
