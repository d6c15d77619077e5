-- Members who were there from the beginning.
WITH joined AS (
    INSERT INTO members (conversation, member, visible_after, delivered, read_seq)
    SELECT $1, n.member, 0, 0, 0 FROM unnest($2::text[]) AS n (member)
), counted AS (
    UPDATE accounts SET conversations = conversations + 1 WHERE name = ANY($2)
)
INSERT INTO conversations (id, title, admin, member_count) VALUES ($1, $3, $4, cardinality($2));
