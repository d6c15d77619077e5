-- Asked after the lock, so that whoever was removed before is not found here. LIMIT keeps this a
-- look-up per pair, whatever a plan made for small tables would have liked.
SELECT n.conversation, n.member, m.delivered, m.read_seq
FROM unnest($1::bytea[], $2::text[]) AS n (conversation, member)
CROSS JOIN LATERAL (
    SELECT delivered, read_seq FROM members
    WHERE members.conversation = n.conversation AND members.member = n.member LIMIT 1
) AS m;
