-- In one statement, so that who asks and what is answered are of one moment.
SELECT member, delivered, read_seq FROM members
WHERE conversation = $1
    AND EXISTS (SELECT 1 FROM members AS asking WHERE asking.conversation = $1 AND asking.member = $2)
ORDER BY member;
