-- New members in the order of their names: each sees what follows their own entry of the log.
WITH new AS (
    SELECT * FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS n (member, client_id, place)
), joined AS (
    INSERT INTO members (conversation, member, visible_after, delivered, read_seq)
    SELECT $1, member, $4 + place - 1, $4 + place - 1, $4 + place - 1 FROM new
), written AS (
    INSERT INTO messages (conversation, seq, sender, client_id, at_ms, kind, text)
    SELECT $1, $4 + place, $5, client_id, $6, 1, convert_to(member, 'UTF8') FROM new
), counted AS (
    UPDATE accounts SET conversations = conversations + 1 FROM new WHERE accounts.name = new.member
)
UPDATE conversations
SET last_seq = last_seq + cardinality($2), member_count = member_count + cardinality($2),
    members_version = members_version + 1
WHERE id = $1;
