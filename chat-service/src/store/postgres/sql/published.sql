UPDATE conversations SET published = least(n.seq, conversations.last_seq)
FROM unnest($1::bytea[], $2::bigint[]) AS n (id, seq)
WHERE conversations.id = n.id AND conversations.published < n.seq;
