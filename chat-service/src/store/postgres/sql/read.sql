-- Runs after the appends of the batch. Own messages are counted only when the cursor stops short
-- of the last one; each is counted once.
UPDATE members
SET read_seq = n.seq,
    delivered = greatest(members.delivered, n.seq),
    sent_up_to_read = CASE
        WHEN n.seq >= members.last_own THEN members.sent
        ELSE members.sent_up_to_read + (
            SELECT count(*) FROM messages
            WHERE messages.conversation = members.conversation
                AND messages.seq > greatest(members.read_seq, members.visible_after)
                AND messages.seq <= n.seq
                AND messages.sender = members.member
        )
    END
FROM unnest($1::bytea[], $2::text[], $3::bigint[]) AS n (conversation, member, seq)
WHERE members.conversation = n.conversation AND members.member = n.member
    AND members.read_seq < n.seq;
