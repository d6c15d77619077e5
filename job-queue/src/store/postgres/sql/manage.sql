-- Whole queues: deleting, emptying, counting, and moving messages between two of them.

-- Trade-off: one transaction, which takes seconds for a million messages. Nobody can see half of
-- it, and nobody but this queue's users waits.
CREATE OR REPLACE FUNCTION queue_remove(_region text, _name text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE _number bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(queue_lock(_region, _name));
    DELETE FROM queues WHERE region = _region AND name = _name RETURNING number INTO _number;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such queue' USING ERRCODE = 'JQ404';
    END IF;
    DELETE FROM messages WHERE queue = _number;
    DELETE FROM lanes WHERE queue = _number;
    DELETE FROM accepted WHERE queue = _number;
    DELETE FROM attempts WHERE queue = _number;
    DELETE FROM tallies WHERE queue = _number;
END $$;

CREATE OR REPLACE FUNCTION queue_purge(
    _region text, _name text, _interval_ms bigint, _now bigint
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE q queues;
BEGIN
    PERFORM pg_advisory_xact_lock(queue_lock(_region, _name));
    q := queue_named(_region, _name);
    IF _now < q.purged_at_ms + _interval_ms THEN
        RAISE EXCEPTION 'purged recently' USING ERRCODE = 'JQ403';
    END IF;
    UPDATE queues SET purged_at_ms = _now WHERE number = q.number;
    DELETE FROM messages WHERE queue = q.number;
    DELETE FROM lanes WHERE queue = q.number;
    UPDATE tallies SET messages = 0, in_flight = 0, delayed = 0, bytes = 0
    WHERE queue = q.number;
END $$;

CREATE OR REPLACE FUNCTION queue_counts(_region text, _name text, _now bigint)
RETURNS TABLE (messages bigint, in_flight bigint, delayed bigint, oldest bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE q queues := queue_named(_region, _name);
BEGIN
    PERFORM queue_settle(q, _now, 4096);
    RETURN QUERY
    SELECT coalesce(sum(t.messages), 0)::bigint, coalesce(sum(t.in_flight), 0)::bigint,
        coalesce(sum(t.delayed), 0)::bigint,
        (SELECT m.sent_at_ms FROM messages AS m WHERE m.queue = q.number
         ORDER BY m.sent_at_ms, m.seq LIMIT 1)
    FROM tallies AS t WHERE t.queue = q.number;
END $$;

-- Moves ready messages to `_to_name`, or each home. What has no home, or a full one, goes to the
-- end of its lane: the next step must not find it in its way.
CREATE OR REPLACE FUNCTION queue_transfer(
    _region text, _name text, _to_region text, _to_name text, _turn text, _count_max integer,
    _messages_max bigint, _now bigint
) RETURNS TABLE (moved integer, failed integer, turn text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q queues := queue_named(_region, _name);
    target queues;
    m messages;
    _lanes text[];
BEGIN
    PERFORM queue_settle(q, _now, 4096);
    moved := 0;
    failed := 0;
    turn := '';
    IF q.is_fifo THEN
        SELECT array_agg(l.lane) INTO _lanes FROM (
            SELECT lane FROM lanes WHERE queue = q.number AND leased = 0 AND ready > 0
            ORDER BY turn LIMIT _count_max FOR UPDATE SKIP LOCKED) AS l;
    END IF;
    FOR m IN
        SELECT * FROM messages AS it
        WHERE it.queue = q.number AND it.phase = 0 AND it.lane > _turn
            AND (NOT q.is_fifo OR it.lane = ANY (_lanes))
        ORDER BY it.lane, it.seq LIMIT _count_max FOR UPDATE SKIP LOCKED
    LOOP
        turn := m.lane;
        _region := coalesce(_to_region, m.source::json ->> 'region');
        _name := coalesce(_to_name, m.source::json ->> 'name');
        -- Locked before it is looked for: what is found cannot be removed any more.
        PERFORM pg_advisory_xact_lock_shared(queue_lock(_region, _name));
        SELECT * INTO target FROM queues AS t WHERE t.region = _region AND t.name = _name;
        IF target.number IS NULL OR _messages_max <= (
            SELECT coalesce(sum(t.messages), 0) FROM tallies AS t WHERE t.queue = target.number)
        THEN
            UPDATE messages AS it SET seq = nextval('message_seq') WHERE it.seq = m.seq;
            UPDATE lanes AS l SET turn = nextval('lane_turn')
            WHERE l.queue = q.number AND l.lane = m.lane;
            failed := failed + 1;
        ELSE
            PERFORM queue_forget(q, m);
            PERFORM queue_put(target, m, NULL, _now);
            moved := moved + 1;
        END IF;
    END LOOP;
    RETURN NEXT;
END $$;
