-- What every operation is made of.
--
-- Locks are taken in one order, so that nobody waits in a circle: the queue (shared), lanes by
-- name, deduplication keys by name, tallies. Everything else is taken with SKIP LOCKED and never
-- waited for. A dead letter between two FIFO queues can still meet a redrive the other way;
-- Postgres ends one of the two and the server repeats it.

-- The queue, kept from being removed or purged until the end of the transaction. The lock is in
-- memory and shared: it costs no write, and nobody but a purge ever waits for it.
CREATE OR REPLACE FUNCTION queue_lock(_region text, _name text) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT hashtextextended(_region || '/' || _name, 6300) $$;

CREATE OR REPLACE FUNCTION queue_named(_region text, _name text) RETURNS queues
LANGUAGE plpgsql AS $$
DECLARE q queues;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(queue_lock(_region, _name));
    SELECT * INTO q FROM queues WHERE region = _region AND name = _name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such queue' USING ERRCODE = 'JQ404';
    END IF;
    RETURN q;
END $$;

CREATE OR REPLACE FUNCTION queue_tally(
    _queue bigint, _messages bigint, _in_flight bigint, _delayed bigint, _bytes bigint, _ids bigint
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO tallies AS t
    VALUES (_queue, pg_backend_pid() % 16, _messages, _in_flight, _delayed, _bytes, _ids)
    ON CONFLICT (queue, part) DO UPDATE SET
        messages = t.messages + excluded.messages, in_flight = t.in_flight + excluded.in_flight,
        delayed = t.delayed + excluded.delayed, bytes = t.bytes + excluded.bytes,
        ids = t.ids + excluded.ids
$$;

-- Tells every server that `_count` consumers of the queue have something to do.
CREATE OR REPLACE FUNCTION queue_tell(q queues, _count bigint) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('job_queue', _count || E'\n' || q.region || E'\n' || q.name) WHERE _count > 0
$$;

-- Locks lanes in the order of their names, making those that are not there.
CREATE OR REPLACE FUNCTION lanes_lock(_queue bigint, _lanes text[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO lanes AS l
    SELECT _queue, it, 0, 0, 0, 0, nextval('lane_turn')
    FROM (SELECT DISTINCT it FROM unnest(_lanes) AS it ORDER BY it) AS them
    ORDER BY it
    ON CONFLICT (queue, lane) DO UPDATE SET turn = l.turn
$$;

-- Counts messages into and out of a lane that the caller holds; true when that opened it. An empty
-- lane is forgotten, and one that opens stands at the end of the turn.
CREATE OR REPLACE FUNCTION lane_change(
    _queue bigint, _lane text, _ready integer, _leased integer, _delayed integer
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    was lanes;
    _was_open boolean;
    _is_open boolean;
BEGIN
    SELECT * INTO was FROM lanes WHERE queue = _queue AND lane = _lane FOR UPDATE;
    _was_open := was.leased = 0 AND was.ready > 0;
    _is_open := was.leased + _leased = 0 AND was.ready + _ready > 0;
    IF was.ready + _ready = 0 AND was.leased + _leased = 0 AND was.delayed + _delayed = 0 THEN
        DELETE FROM lanes WHERE queue = _queue AND lane = _lane;
    ELSE
        UPDATE lanes SET ready = ready + _ready, leased = leased + _leased,
            delayed = delayed + _delayed,
            turn = CASE WHEN _is_open AND NOT _was_open THEN nextval('lane_turn') ELSE turn END
        WHERE queue = _queue AND lane = _lane;
    END IF;
    RETURN _is_open AND NOT _was_open;
END $$;

-- Takes a message out, wherever it stands; true when that opened its lane.
CREATE OR REPLACE FUNCTION queue_forget(q queues, m messages) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    _ready integer := (m.phase = 0)::integer;
    _delayed integer := (m.phase = 1)::integer;
    _leased integer := (m.phase = 2)::integer;
BEGIN
    DELETE FROM messages WHERE seq = m.seq;
    PERFORM queue_tally(q.number, -1, -_leased, -_delayed, -m.bytes, 0);
    RETURN q.is_fifo AND lane_change(q.number, m.lane, -_ready, -_leased, -_delayed);
END $$;

-- Puts in a message from another queue: a dead letter, or one that is given another chance. It
-- keeps identity and epoch and begins anew as to receives. On a standard queue it keeps its age,
-- so that nothing lives for ever by moving.
CREATE OR REPLACE FUNCTION queue_put(q queues, m messages, _source text, _now bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF q.is_fifo THEN
        PERFORM lanes_lock(q.number, ARRAY[m.lane]);
        PERFORM lane_change(q.number, m.lane, 1, 0, 0);
    END IF;
    INSERT INTO messages VALUES (
        nextval('message_seq'), q.number, m.lane, 0, 0, 0,
        CASE WHEN q.is_fifo THEN _now ELSE m.sent_at_ms END,
        0, m.epoch, 0, m.bytes, m.id, _source, m.content);
    PERFORM queue_tally(q.number, 1, 0, 0, m.bytes, 0);
    PERFORM queue_tell(q, 1);
END $$;

-- Lets time have its effect: ends delays and leases that are due, deletes what is past its
-- retention, a bounded number of each.
CREATE OR REPLACE FUNCTION queue_settle(q queues, _now bigint, _count_max integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM messages
    WHERE queue = q.number AND phase <> 0 AND until_ms <= _now LIMIT 1;
    IF FOUND THEN
        PERFORM queue_end_due(q, _now, _count_max);
    END IF;
    PERFORM 1 FROM messages
    WHERE queue = q.number AND sent_at_ms <= _now - q.retention_ms LIMIT 1;
    IF FOUND THEN
        PERFORM queue_expire(q, _now, _count_max);
    END IF;
END $$;

-- The lanes, of those with messages that are due or old, that nobody else is working on.
CREATE OR REPLACE FUNCTION lanes_claim(_queue bigint, _lanes text[]) RETURNS text[]
LANGUAGE sql AS $$
    SELECT array_agg(lane) FROM (
        SELECT lane FROM lanes WHERE queue = _queue AND lane = ANY (_lanes)
        ORDER BY lane FOR UPDATE SKIP LOCKED
    ) AS free
$$;

CREATE OR REPLACE FUNCTION queue_end_due(q queues, _now bigint, _count_max integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    _lanes text[];
    _ended bigint := 0;
    _leases bigint := 0;
    _news bigint := 0;
    it record;
BEGIN
    IF NOT q.is_fifo THEN
        WITH due AS (
            SELECT seq, phase FROM messages
            WHERE queue = q.number AND phase <> 0 AND until_ms <= _now
            ORDER BY until_ms LIMIT _count_max FOR UPDATE SKIP LOCKED
        ), ended AS (
            UPDATE messages AS m SET phase = 0 FROM due WHERE m.seq = due.seq
        )
        SELECT count(*), count(*) FILTER (WHERE phase = 2) INTO _ended, _leases FROM due;
        _news := _ended;
    ELSE
        _lanes := lanes_claim(q.number, ARRAY(
            SELECT lane FROM messages WHERE queue = q.number AND phase <> 0 AND until_ms <= _now
            ORDER BY until_ms LIMIT _count_max));
        FOR it IN
            WITH due AS (
                SELECT seq, phase, lane FROM messages
                WHERE queue = q.number AND phase <> 0 AND until_ms <= _now AND lane = ANY (_lanes)
            ), ended AS (
                UPDATE messages AS m SET phase = 0 FROM due WHERE m.seq = due.seq
            )
            SELECT lane, count(*)::integer AS ended, (count(*) FILTER (WHERE phase = 2))::integer
                AS leases FROM due GROUP BY lane
        LOOP
            _news := _news + lane_change(
                q.number, it.lane, it.ended, -it.leases, it.leases - it.ended)::integer;
            _ended := _ended + it.ended;
            _leases := _leases + it.leases;
        END LOOP;
    END IF;
    PERFORM queue_tally(q.number, 0, -_leases, _leases - _ended, 0, 0);
    PERFORM queue_tell(q, _news);
END $$;

CREATE OR REPLACE FUNCTION queue_expire(q queues, _now bigint, _count_max integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    _lanes text[];
    _opened bigint := 0;
    m messages;
BEGIN
    IF NOT q.is_fifo THEN
        WITH old AS (
            SELECT seq FROM messages
            WHERE queue = q.number AND sent_at_ms <= _now - q.retention_ms
            ORDER BY sent_at_ms, seq LIMIT _count_max FOR UPDATE SKIP LOCKED
        ), gone AS (
            DELETE FROM messages AS d USING old WHERE d.seq = old.seq RETURNING d.phase, d.bytes
        )
        INSERT INTO tallies AS t
        SELECT q.number, pg_backend_pid() % 16, -count(*), -count(*) FILTER (WHERE phase = 2),
            -count(*) FILTER (WHERE phase = 1), -coalesce(sum(bytes), 0), 0 FROM gone
        ON CONFLICT (queue, part) DO UPDATE SET
            messages = t.messages + excluded.messages, in_flight = t.in_flight + excluded.in_flight,
            delayed = t.delayed + excluded.delayed, bytes = t.bytes + excluded.bytes;
        RETURN;
    END IF;
    _lanes := lanes_claim(q.number, ARRAY(
        SELECT lane FROM messages WHERE queue = q.number AND sent_at_ms <= _now - q.retention_ms
        ORDER BY sent_at_ms, seq LIMIT _count_max));
    FOR m IN
        SELECT * FROM messages
        WHERE queue = q.number AND sent_at_ms <= _now - q.retention_ms AND lane = ANY (_lanes)
        ORDER BY sent_at_ms, seq LIMIT _count_max
    LOOP
        _opened := _opened + queue_forget(q, m)::integer;
    END LOOP;
    PERFORM queue_tell(q, _opened);
END $$;
