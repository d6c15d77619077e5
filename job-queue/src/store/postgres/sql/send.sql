-- Stores a batch, each entry answered by itself.
-- outcome: 0 stored or a duplicate, 1 too many messages, 2 too many bytes, 3 too many ids,
-- 4 no group, 5 no deduplication id.
CREATE OR REPLACE FUNCTION queue_send(
    _region text, _name text, _ids text[], _lanes text[], _dedup_ids text[], _delays bigint[],
    _bytes bigint[], _contents text[], _limits bigint[], _window_ms bigint, _now bigint
) RETURNS TABLE (outcome integer, id text, seq bigint, is_ready boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q queues := queue_named(_region, _name);
    full_ tallies;
    _seqs bigint[];
BEGIN
    IF q.is_fifo THEN
        RETURN QUERY SELECT * FROM queue_send_fifo(
            q, _ids, _lanes, _dedup_ids, _delays, _bytes, _contents, _limits, _window_ms, _now);
        RETURN;
    END IF;
    SELECT sum(t.messages), sum(t.bytes) INTO full_.messages, full_.bytes
    FROM tallies AS t WHERE t.queue = q.number;
    SELECT array_agg(nextval('message_seq')) INTO _seqs FROM generate_subscripts(_ids, 1);
    RETURN QUERY
    WITH entries AS (
        SELECT n, _ids[n] AS id, _seqs[n] AS seq, _bytes[n] AS bytes,
            coalesce(_delays[n], q.delay_ms) AS delay_ms,
            CASE WHEN coalesce(full_.messages, 0) + n > _limits[1] THEN 1
                 WHEN coalesce(full_.bytes, 0) + sum(_bytes[n]) OVER (ORDER BY n) > _limits[2]
                 THEN 2 ELSE 0 END AS outcome
        FROM generate_subscripts(_ids, 1) AS n
    ), stored AS (
        INSERT INTO messages
        SELECT e.seq, q.number, _lanes[n], (delay_ms > 0)::integer,
            CASE WHEN delay_ms > 0 THEN _now + delay_ms ELSE 0 END,
            0, _now, 0, 0, 0, e.bytes, e.id, NULL, _contents[n]
        FROM entries AS e WHERE e.outcome = 0 ORDER BY n
    ), counted AS (
        INSERT INTO tallies AS t
        SELECT q.number, pg_backend_pid() % 16, count(*), 0,
            count(*) FILTER (WHERE delay_ms > 0), coalesce(sum(e.bytes), 0), 0
        FROM entries AS e WHERE e.outcome = 0
        ON CONFLICT (queue, part) DO UPDATE SET
            messages = t.messages + excluded.messages, delayed = t.delayed + excluded.delayed,
            bytes = t.bytes + excluded.bytes
    )
    SELECT e.outcome, e.id, e.seq, e.delay_ms <= 0 FROM entries AS e ORDER BY n;
END $$;

-- FIFO: the lanes are locked before any number is given out, so the order of numbers within a
-- group is the order of commits: nobody can receive the second before the first is there.
CREATE OR REPLACE FUNCTION queue_send_fifo(
    q queues, _ids text[], _lanes text[], _dedup_ids text[], _delays bigint[],
    _bytes bigint[], _contents text[], _limits bigint[], _window_ms bigint, _now bigint
) RETURNS TABLE (outcome integer, id text, seq bigint, is_ready boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    full_ tallies;
    _seqs bigint[];
    _new boolean[];
    _is_first boolean;
    original record;
    _n integer;
    _until bigint;
    _new_ids integer := 0;
BEGIN
    PERFORM lanes_lock(q.number, array_remove(_lanes, '.'));
    PERFORM queue_settle(q, _now, 4096);
    PERFORM accepted_expire(q.number, _now);
    SELECT sum(t.messages), sum(t.bytes), sum(t.ids) INTO full_.messages, full_.bytes, full_.ids
    FROM tallies AS t WHERE t.queue = q.number;
    SELECT array_agg(nextval('message_seq')) INTO _seqs FROM generate_subscripts(_ids, 1);
    -- Who is new? Asked in the order of the keys: two batches with the same keys wait for one
    -- another in one direction only.
    FOR _n IN
        SELECT n FROM generate_subscripts(_ids, 1) AS n
        WHERE _lanes[n] <> '.' AND _dedup_ids[n] IS NOT NULL
        ORDER BY CASE WHEN q.dedup_by_group THEN _lanes[n] || E'\n' ELSE '' END || _dedup_ids[n], n
    LOOP
        INSERT INTO accepted AS a VALUES (
            q.number,
            CASE WHEN q.dedup_by_group THEN _lanes[_n] || E'\n' ELSE '' END || _dedup_ids[_n],
            _ids[_n], _seqs[_n], _now + _window_ms)
        ON CONFLICT (queue, key) DO UPDATE SET
            id = excluded.id, seq = excluded.seq, expires_at_ms = excluded.expires_at_ms
        WHERE a.expires_at_ms <= _now
        RETURNING xmax = 0 INTO _is_first;
        _new[_n] := FOUND;
        IF FOUND THEN
            _new_ids := _new_ids + _is_first::integer;
        ELSE
            SELECT a.id, a.seq INTO original FROM accepted AS a
            WHERE a.queue = q.number AND a.key =
                CASE WHEN q.dedup_by_group THEN _lanes[_n] || E'\n' ELSE '' END || _dedup_ids[_n];
            _ids[_n] := original.id;
            _seqs[_n] := original.seq;
        END IF;
    END LOOP;
    IF coalesce(full_.messages, 0) + cardinality(_ids) > _limits[1]
        OR coalesce(full_.bytes, 0) + (SELECT sum(b) FROM unnest(_bytes) AS b) > _limits[2]
        OR coalesce(full_.ids, 0) + _new_ids > _limits[3] THEN
        RAISE EXCEPTION 'the queue is full' USING ERRCODE = 'JQ507';
    END IF;
    FOR _n IN SELECT n FROM generate_subscripts(_ids, 1) AS n ORDER BY n LOOP
        is_ready := false;
        id := _ids[_n];
        seq := _seqs[_n];
        outcome := CASE WHEN _lanes[_n] = '.' THEN 4 WHEN _dedup_ids[_n] IS NULL THEN 5 ELSE 0 END;
        IF outcome = 0 AND _new[_n] THEN
            -- Nobody is ready before those of the group that were sent earlier.
            SELECT greatest(_now + coalesce(_delays[_n], q.delay_ms),
                CASE WHEN l.delayed > 0 THEN l.delayed_until_ms ELSE 0 END) INTO _until
            FROM lanes AS l WHERE l.queue = q.number AND l.lane = _lanes[_n];
            INSERT INTO messages VALUES (
                seq, q.number, _lanes[_n], (_until > _now)::integer,
                CASE WHEN _until > _now THEN _until ELSE 0 END,
                0, _now, 0, 0, 0, _bytes[_n], id, NULL, _contents[_n]);
            is_ready := lane_change(q.number, _lanes[_n],
                (_until <= _now)::integer, 0, (_until > _now)::integer);
            IF _until > _now THEN
                UPDATE lanes SET delayed_until_ms = _until
                WHERE queue = q.number AND lane = _lanes[_n];
            END IF;
            PERFORM queue_tally(q.number, 1, 0, (_until > _now)::integer, _bytes[_n], 0);
        ELSIF _lanes[_n] <> '.' THEN
            PERFORM lane_change(q.number, _lanes[_n], 0, 0, 0);
        END IF;
        RETURN NEXT;
    END LOOP;
    PERFORM queue_tally(q.number, 0, 0, 0, 0, _new_ids);
END $$;

CREATE OR REPLACE FUNCTION accepted_expire(_queue bigint, _now bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE _gone bigint;
BEGIN
    WITH old AS (
        SELECT key FROM accepted WHERE queue = _queue AND expires_at_ms <= _now
        ORDER BY expires_at_ms LIMIT 4096 FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM accepted AS a USING old WHERE a.queue = _queue AND a.key = old.key
        RETURNING 1
    )
    SELECT count(*) INTO _gone FROM gone;
    IF _gone > 0 THEN
        PERFORM queue_tally(_queue, 0, 0, 0, 0, -_gone);
    END IF;
END $$;
