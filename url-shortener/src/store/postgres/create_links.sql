-- All rows in one statement. A code that is taken, also by an earlier row of this statement, is
-- left out of the answer. The caller sorts by code: two batches that want the same codes wait for
-- each other in one order and cannot deadlock.
INSERT INTO links (code, version, state, target, owner, created_at_ms, expires_at_ms, max_visits,
                   redirect, tags, unlisted)
SELECT code, 1, 0, target, owner, created_at_ms, expires_at_ms, max_visits, redirect,
       ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)), unlisted
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
            $7::smallint[], $8::text[], $9::boolean[])
     AS row (code, target, owner, created_at_ms, expires_at_ms, max_visits, redirect, tags, unlisted)
ON CONFLICT (code) DO NOTHING
RETURNING code, id
