WITH devices AS (
    INSERT INTO cursors (owner, device, conversation, seq)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[])
    ON CONFLICT (owner, device, conversation)
    DO UPDATE SET seq = greatest(cursors.seq, excluded.seq)
)
UPDATE members SET delivered = greatest(members.delivered, n.seq)
FROM unnest($5::bytea[], $6::text[], $7::bigint[]) AS n (conversation, member, seq)
WHERE members.conversation = n.conversation AND members.member = n.member
    AND members.delivered < n.seq;
