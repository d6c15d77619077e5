-- In one order, so that two servers never wait for each other in a circle.
SELECT link_id, day, tally FROM link_days
WHERE (link_id, day) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[]))
ORDER BY link_id, day
FOR UPDATE
