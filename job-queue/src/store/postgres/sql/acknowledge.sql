-- Trap: `queue + 0` keeps the planner from the index by age, which begins with the queue and holds
-- the number too. It would go through everything in the queue to find ten messages, and the plan is
-- made when the table is still empty and every index looks the same.

-- Deletes what the receipts prove to hold, each answered by itself.
-- outcome: 0 done or gone already, 1 not of this queue, 2 stale, 3 expired, 4 not in flight,
-- 5 beyond 12 hours. `worked_ms` is how long the lease lasted. `news`: consumers to wake.
CREATE OR REPLACE FUNCTION queue_delete(
    _region text, _name text, _numbers bigint[], _seqs bigint[], _epochs bigint[], _now bigint
) RETURNS TABLE (outcome integer, worked_ms bigint, news integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q queues := queue_named(_region, _name);
    m messages;
    _n integer;
BEGIN
    IF NOT q.is_fifo THEN
        -- A late worker may still say "done", as long as nobody else has begun.
        RETURN QUERY
        WITH held AS (
            SELECT m.seq, m.epoch, m.phase, m.since_ms, m.bytes FROM messages AS m
            WHERE m.queue + 0 = q.number AND m.seq = ANY (_seqs) ORDER BY m.seq FOR UPDATE
        ), judged AS (
            SELECT asked.n, held.seq, held.phase, held.since_ms,
                CASE WHEN asked.number <> q.number OR asked.epoch > held.epoch THEN 1
                     WHEN asked.epoch < held.epoch THEN 2 ELSE 0 END AS outcome
            FROM unnest(_numbers, _seqs, _epochs) WITH ORDINALITY AS asked (number, seq, epoch, n)
            LEFT JOIN held ON held.seq = asked.seq
        ), gone AS (
            DELETE FROM messages AS d
            WHERE d.seq IN (SELECT judged.seq FROM judged WHERE judged.outcome = 0)
            RETURNING d.phase, d.bytes
        ), counted AS (
            INSERT INTO tallies AS t
            SELECT q.number, pg_backend_pid() % 16, -count(*),
                -count(*) FILTER (WHERE gone.phase = 2), -count(*) FILTER (WHERE gone.phase = 1),
                -sum(gone.bytes), 0
            FROM gone HAVING count(*) > 0
            ON CONFLICT (queue, part) DO UPDATE SET
                messages = t.messages + excluded.messages,
                in_flight = t.in_flight + excluded.in_flight,
                delayed = t.delayed + excluded.delayed, bytes = t.bytes + excluded.bytes
        )
        SELECT judged.outcome,
            CASE WHEN judged.outcome = 0 AND judged.phase = 2 THEN _now - judged.since_ms END, 0
        FROM judged ORDER BY judged.n;
        RETURN;
    END IF;
    PERFORM 1 FROM lanes AS l WHERE l.queue = q.number AND l.lane IN (
        SELECT d.lane FROM messages AS d WHERE d.queue + 0 = q.number AND d.seq = ANY (_seqs)
    ) ORDER BY l.lane FOR UPDATE;
    FOR _n IN SELECT generate_subscripts(_seqs, 1) LOOP
        outcome := receipt_judge(q, _numbers[_n], _seqs[_n], _epochs[_n]);
        worked_ms := NULL;
        news := 0;
        SELECT * INTO m FROM messages AS d WHERE d.queue + 0 = q.number AND d.seq = _seqs[_n];
        IF outcome = 0 AND FOUND THEN
            -- After the lease's end the next in line may have begun: its order is gone.
            IF m.phase = 2 AND m.until_ms > _now THEN
                worked_ms := _now - m.since_ms;
                news := queue_forget(q, m)::integer;
            ELSE
                outcome := 3;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION receipt_judge(q queues, _number bigint, _seq bigint, _epoch bigint)
RETURNS integer LANGUAGE sql AS $$
    SELECT CASE WHEN _number <> q.number THEN 1 ELSE coalesce(
        (SELECT CASE WHEN _epoch > m.epoch THEN 1 WHEN _epoch < m.epoch THEN 2 ELSE 0 END
         FROM messages AS m WHERE m.queue + 0 = q.number AND m.seq = _seq), 0) END
$$;

-- Moves the end of leases to `_now + ms`; zero gives the message back at once.
CREATE OR REPLACE FUNCTION queue_hide(
    _region text, _name text, _numbers bigint[], _seqs bigint[], _epochs bigint[], _ms bigint[],
    _lease_max_ms bigint, _now bigint
) RETURNS TABLE (outcome integer, worked_ms bigint, news integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    q queues := queue_named(_region, _name);
    m messages;
    _n integer;
BEGIN
    IF q.is_fifo THEN
        PERFORM 1 FROM lanes AS l WHERE l.queue = q.number AND l.lane IN (
            SELECT d.lane FROM messages AS d WHERE d.queue + 0 = q.number AND d.seq = ANY (_seqs)
        ) ORDER BY l.lane FOR UPDATE;
    ELSE
        PERFORM 1 FROM messages AS d WHERE d.queue + 0 = q.number AND d.seq = ANY (_seqs)
        ORDER BY d.seq FOR UPDATE;
    END IF;
    FOR _n IN SELECT generate_subscripts(_seqs, 1) LOOP
        outcome := receipt_judge(q, _numbers[_n], _seqs[_n], _epochs[_n]);
        news := 0;
        SELECT * INTO m FROM messages AS d WHERE d.queue + 0 = q.number AND d.seq = _seqs[_n];
        IF outcome = 0 AND (NOT FOUND OR m.phase <> 2 OR m.until_ms <= _now) THEN
            outcome := 4;
        ELSIF outcome = 0 AND _now + _ms[_n] > m.since_ms + _lease_max_ms THEN
            outcome := 5;
        ELSIF outcome = 0 AND _ms[_n] > 0 THEN
            UPDATE messages AS d SET until_ms = _now + _ms[_n] WHERE d.seq = m.seq;
        ELSIF outcome = 0 THEN
            UPDATE messages AS d SET phase = 0, until_ms = _now WHERE d.seq = m.seq;
            PERFORM queue_tally(q.number, 0, -1, 0, 0, 0);
            news := 1;
            IF q.is_fifo THEN
                news := lane_change(q.number, m.lane, 1, -1, 0)::integer;
            END IF;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
