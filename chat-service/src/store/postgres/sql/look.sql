-- What is to be known under the locks: how members stand, and the messages that were sent before
-- under these ids (usually none). Asked after the lock, so that whoever was removed before is not
-- found here. LIMIT keeps this a look-up per pair, whatever a plan made for small tables would have
-- liked.
SELECT n.conversation, n.name, m.delivered, m.read_seq,
    NULL::bytea, NULL::smallint, NULL::bytea
FROM unnest($1::bytea[], $2::text[]) AS n (conversation, name)
CROSS JOIN LATERAL (
    SELECT delivered, read_seq FROM members
    WHERE members.conversation = n.conversation AND members.member = n.name LIMIT 1
) AS m
UNION ALL
SELECT m.conversation, n.name, m.seq, m.at_ms, n.client_id, m.kind, m.text
FROM unnest($3::text[], $4::bytea[]) AS n (name, client_id)
CROSS JOIN LATERAL (
    SELECT conversation, seq, at_ms, kind, text FROM messages
    WHERE messages.sender = n.name AND messages.client_id = n.client_id LIMIT 1
) AS m;
