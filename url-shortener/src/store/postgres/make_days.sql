-- FOR UPDATE locks nothing that is not there: two servers that count the first clicks of a day
-- would both find no row, and the second to write would win. So the rows are made first.
INSERT INTO link_days (link_id, day)
SELECT * FROM unnest($1::bigint[], $2::bigint[])
ON CONFLICT DO NOTHING
