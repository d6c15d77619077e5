UPDATE link_days SET tally = new.tally
FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS new (link_id, day, tally)
WHERE link_days.link_id = new.link_id AND link_days.day = new.day
