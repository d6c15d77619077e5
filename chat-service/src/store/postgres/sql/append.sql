-- The messages of a whole batch, the counts of their senders and the ends of their logs.
WITH written AS (
    INSERT INTO messages (conversation, seq, sender, client_id, at_ms, kind, text)
    SELECT * FROM unnest(
        $1::bytea[], $2::bigint[], $3::text[], $4::bytea[], $5::bigint[], $6::smallint[], $7::bytea[]
    )
), counted AS (
    UPDATE members
    SET sent = members.sent + n.sent, last_own = greatest(members.last_own, n.last_own)
    FROM unnest($8::bytea[], $9::text[], $10::bigint[], $11::bigint[])
        AS n (conversation, member, sent, last_own)
    WHERE members.conversation = n.conversation AND members.member = n.member
)
UPDATE conversations SET last_seq = n.last_seq
FROM unnest($12::bytea[], $13::bigint[]) AS n (id, last_seq)
WHERE conversations.id = n.id;
