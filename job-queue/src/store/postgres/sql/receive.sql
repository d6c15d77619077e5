-- Leases up to `_max` messages; those received too often go to the dead-letter queue on the way,
-- if there is one. `_turn` is the lane that was served last by this server: the next one begins.
CREATE OR REPLACE FUNCTION queue_receive(
    _region text, _name text, _max integer, _visibility_ms bigint, _attempt text, _turn text,
    _in_flight_max bigint, _window_ms bigint, _now bigint
) RETURNS TABLE (
    queue_number bigint, seq bigint, epoch bigint, lane text, id text, receives integer,
    sent_at_ms bigint, first_received_at_ms bigint, source text, content text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q queues := queue_named(_region, _name);
    dead queues;
    _until bigint := _now + coalesce(_visibility_ms, q.visibility_timeout_ms);
    _seqs bigint[];
BEGIN
    PERFORM queue_settle(q, _now, 4096);
    _seqs := attempt_held(q, _attempt, _until, _now);
    IF _seqs IS NULL THEN
        IF (SELECT sum(t.in_flight) FROM tallies AS t WHERE t.queue = q.number) >= _in_flight_max
        THEN
            IF q.is_fifo THEN RETURN; END IF;
            RAISE EXCEPTION 'too many messages are in flight' USING ERRCODE = 'JQ429';
        END IF;
        IF q.dead_name IS NOT NULL THEN
            PERFORM pg_advisory_xact_lock_shared(queue_lock(q.dead_region, q.dead_name));
            SELECT * INTO dead FROM queues AS d
            WHERE d.region = q.dead_region AND d.name = q.dead_name;
        END IF;
        IF q.is_fifo THEN
            _seqs := lease_fifo(q, dead, _max, _until, _now);
        ELSE
            _seqs := lease_standard(q, dead, _max, _turn, _until, _now);
        END IF;
        IF _attempt IS NOT NULL THEN
            PERFORM attempt_remember(q, _attempt, _seqs, _now + _window_ms);
        END IF;
    END IF;
    RETURN QUERY
    SELECT q.number, m.seq, m.epoch, m.lane, m.id, m.receives, m.sent_at_ms,
        m.first_received_at_ms, m.source, m.content
    FROM unnest(_seqs) WITH ORDINALITY AS it(seq, n) JOIN messages AS m ON m.seq = it.seq
    ORDER BY it.n;
END $$;

-- Leases these messages; the caller holds them.
CREATE OR REPLACE FUNCTION lease_these(_seqs bigint[], _until bigint, _now bigint) RETURNS void
LANGUAGE sql AS $$
    UPDATE messages SET phase = 2, until_ms = _until, since_ms = _now, receives = receives + 1,
        epoch = epoch + 1,
        first_received_at_ms = CASE WHEN receives = 0 THEN _now ELSE first_received_at_ms END
    WHERE seq = ANY (_seqs)
$$;

-- Gives these messages up. They are ready, and the caller holds them.
CREATE OR REPLACE FUNCTION bury_these(q queues, dead queues, _seqs bigint[], _now bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE m messages;
BEGIN
    FOR m IN SELECT * FROM messages WHERE seq = ANY (_seqs) ORDER BY seq LOOP
        PERFORM queue_forget(q, m);
        PERFORM queue_put(
            dead, m, json_build_object('region', q.region, 'name', q.name)::text, _now);
    END LOOP;
END $$;

-- Standard: as many from each tenant's lane as there are places for each, then around again.
-- SKIP LOCKED is what lets many consumers take from one lane at once: each passes by the rows
-- that another is just taking.
CREATE OR REPLACE FUNCTION lease_standard(
    q queues, dead queues, _max integer, _turn text, _until bigint, _now bigint
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    _receives_max integer := CASE WHEN dead.number IS NULL THEN 2147483647 ELSE q.receives_max END;
    _leased bigint[] := '{}';
    _live bigint[];
    _spent bigint[];
    _lanes text[];
    _left integer;
    _buried integer := 0;
    _went_round boolean := false;
BEGIN
    LOOP
        _left := _max - cardinality(_leased);
        EXIT WHEN _left <= 0 OR _buried >= 256; -- the rest is for the next receive
        -- The next lanes with anything ready, each found by one step in the index.
        WITH RECURSIVE found (lane, n) AS (
            (SELECT m.lane, 1 FROM messages AS m
             WHERE m.queue = q.number AND m.phase = 0 AND m.lane > _turn ORDER BY m.lane LIMIT 1)
            UNION ALL
            SELECT next.lane, found.n + 1 FROM found CROSS JOIN LATERAL (
                SELECT m.lane FROM messages AS m
                WHERE m.queue = q.number AND m.phase = 0 AND m.lane > found.lane
                ORDER BY m.lane LIMIT 1) AS next
            WHERE found.n < _left
        )
        SELECT array_agg(lane ORDER BY lane) INTO _lanes FROM found;
        IF _lanes IS NULL THEN
            EXIT WHEN _went_round;
            _went_round := true;
            _turn := '';
            CONTINUE;
        END IF;
        _turn := _lanes[cardinality(_lanes)];
        SELECT array_agg(p.seq) FILTER (WHERE p.receives < _receives_max),
            array_agg(p.seq) FILTER (WHERE p.receives >= _receives_max)
        INTO _live, _spent
        FROM unnest(_lanes) AS l (lane) CROSS JOIN LATERAL (
            SELECT m.seq, m.receives FROM messages AS m
            WHERE m.queue = q.number AND m.phase = 0 AND m.lane = l.lane
                AND m.sent_at_ms > _now - q.retention_ms
            ORDER BY m.seq LIMIT _left / cardinality(_lanes) FOR UPDATE SKIP LOCKED) AS p;
        IF _live IS NOT NULL THEN
            PERFORM lease_these(_live, _until, _now);
            _leased := _leased || _live;
            _went_round := false;
        END IF;
        IF _spent IS NOT NULL THEN
            PERFORM bury_these(q, dead, _spent, _now);
            _buried := _buried + cardinality(_spent);
            _went_round := false;
        END IF;
    END LOOP;
    IF cardinality(_leased) > 0 THEN
        PERFORM queue_tally(q.number, 0, cardinality(_leased), 0, 0, 0);
    END IF;
    RETURN _leased;
END $$;

-- FIFO: as many as possible of the group whose turn it is, which is then closed until they are
-- done. Holding the lane's row is holding its messages.
CREATE OR REPLACE FUNCTION lease_fifo(
    q queues, dead queues, _max integer, _until bigint, _now bigint
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    _receives_max integer := CASE WHEN dead.number IS NULL THEN 2147483647 ELSE q.receives_max END;
    _leased bigint[] := '{}';
    _live bigint[];
    _spent bigint[];
    _lane text;
    _buried integer := 0;
BEGIN
    WHILE cardinality(_leased) < _max AND _buried < 256 LOOP
        SELECT l.lane INTO _lane FROM lanes AS l
        WHERE l.queue = q.number AND l.leased = 0 AND l.ready > 0
        ORDER BY l.turn LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        SELECT array_agg(p.seq ORDER BY p.seq) FILTER (WHERE p.receives < _receives_max),
            array_agg(p.seq) FILTER (WHERE p.receives >= _receives_max)
        INTO _live, _spent
        FROM (
            SELECT m.seq, m.receives FROM messages AS m
            WHERE m.queue = q.number AND m.phase = 0 AND m.lane = _lane
            ORDER BY m.seq LIMIT _max - cardinality(_leased)) AS p;
        EXIT WHEN _live IS NULL AND _spent IS NULL;
        IF _spent IS NOT NULL THEN
            PERFORM bury_these(q, dead, _spent, _now);
            _buried := _buried + cardinality(_spent);
        END IF;
        IF _live IS NOT NULL THEN
            PERFORM lease_these(_live, _until, _now);
            PERFORM lane_change(q.number, _lane, -cardinality(_live), cardinality(_live), 0);
            _leased := _leased || _live;
        END IF;
    END LOOP;
    IF cardinality(_leased) > 0 THEN
        PERFORM queue_tally(q.number, 0, cardinality(_leased), 0, 0, 0);
    END IF;
    RETURN _leased;
END $$;

-- What this attempt got before, with its leases renewed, if it still holds all of it.
CREATE OR REPLACE FUNCTION attempt_held(q queues, _attempt text, _until bigint, _now bigint)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    had attempts;
    _held bigint;
BEGIN
    SELECT * INTO had FROM attempts
    WHERE queue = q.number AND attempt = _attempt AND expires_at_ms > _now;
    IF NOT FOUND OR cardinality(had.seqs) = 0 THEN
        RETURN NULL;
    END IF;
    PERFORM 1 FROM messages WHERE seq = ANY (had.seqs) ORDER BY seq FOR UPDATE;
    SELECT count(*) INTO _held
    FROM unnest(had.seqs, had.epochs) AS it (seq, epoch)
    JOIN messages AS m ON m.seq = it.seq AND m.epoch = it.epoch AND m.phase = 2;
    IF _held < cardinality(had.seqs) THEN
        RETURN NULL;
    END IF;
    UPDATE messages SET until_ms = _until WHERE seq = ANY (had.seqs);
    RETURN had.seqs;
END $$;

CREATE OR REPLACE FUNCTION attempt_remember(
    q queues, _attempt text, _seqs bigint[], _expires_at_ms bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE _number bigint := nextval('attempt_number');
BEGIN
    INSERT INTO attempts VALUES (
        q.number, _attempt, _number, _expires_at_ms, _seqs,
        ARRAY(SELECT m.epoch FROM unnest(_seqs) WITH ORDINALITY AS it (seq, n)
              JOIN messages AS m ON m.seq = it.seq ORDER BY it.n))
    ON CONFLICT (queue, attempt) DO UPDATE SET number = excluded.number,
        expires_at_ms = excluded.expires_at_ms, seqs = excluded.seqs, epochs = excluded.epochs;
    -- At most ATTEMPTS_MAX are remembered; the oldest is forgotten first.
    DELETE FROM attempts WHERE number <= _number - 100000;
END $$;
