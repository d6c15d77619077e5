WITH written AS (
    INSERT INTO messages (conversation, seq, sender, client_id, at_ms, kind, text)
    VALUES ($1, $4, $2, $5, $6, 2, convert_to($3, 'UTF8'))
), gone AS (
    DELETE FROM members WHERE conversation = $1 AND member = $3
), cursors_gone AS (
    DELETE FROM cursors WHERE conversation = $1 AND owner = $3
), counted AS (
    UPDATE accounts SET conversations = conversations - 1 WHERE name = $3
)
UPDATE conversations
SET last_seq = $4, member_count = member_count - 1, members_version = members_version + 1
WHERE id = $1;
