-- The messages that were sent before under these ids. Usually none.
SELECT n.sender, n.client_id, m.conversation, m.seq, m.at_ms, m.kind, m.text
FROM unnest($1::text[], $2::bytea[]) AS n (sender, client_id)
CROSS JOIN LATERAL (
    SELECT conversation, seq, at_ms, kind, text FROM messages
    WHERE messages.sender = n.sender AND messages.client_id = n.client_id LIMIT 1
) AS m;
