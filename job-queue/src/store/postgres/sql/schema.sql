-- The tables of the Postgres answer. Every server runs this file when it connects, one at a time.
--
-- Time never comes from here: every function takes `_now`, the caller's idea of this database's
-- clock (see store/remote.rs), so that a test can move it.

CREATE TABLE IF NOT EXISTS queues (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never reused: receipts name it
    region     text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    settings   text NOT NULL,           -- JSON, all of them
    -- Those that the functions need.
    visibility_timeout_ms bigint  NOT NULL,
    delay_ms              bigint  NOT NULL,
    retention_ms          bigint  NOT NULL,
    is_fifo               boolean NOT NULL,
    dedup_by_group        boolean NOT NULL,
    dead_region           text,
    dead_name             text,
    receives_max          integer,
    purged_at_ms          bigint,
    UNIQUE (region, name)
);

-- CACHE 1: a session that kept numbers in reserve would send later messages under lower numbers.
CREATE SEQUENCE IF NOT EXISTS message_seq CACHE 1;
CREATE SEQUENCE IF NOT EXISTS lane_turn CACHE 1;
CREATE SEQUENCE IF NOT EXISTS attempt_number CACHE 1;

-- phase: 0 ready, 1 delayed, 2 leased. A lease rewrites the row; a body of more than two
-- kilobytes is stored beside it by Postgres and is not rewritten.
-- Rows live seconds and are written three times: half a page stays free for the next version, and
-- the vacuum comes by the number of dead rows and not by a share of the table.
CREATE TABLE IF NOT EXISTS messages (
    seq        bigint   PRIMARY KEY,
    queue      bigint   NOT NULL,
    lane       text COLLATE "C" NOT NULL, -- '.' without a group, ':' and the group with one
    phase      smallint NOT NULL,
    until_ms   bigint   NOT NULL,
    since_ms   bigint   NOT NULL,
    sent_at_ms bigint   NOT NULL,
    receives   integer  NOT NULL,
    epoch      bigint   NOT NULL,
    first_received_at_ms bigint NOT NULL,
    bytes      bigint   NOT NULL,
    id         text     NOT NULL,
    source     text,                      -- JSON: the queue it was given up in
    content    text     NOT NULL          -- JSON
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
-- Who is next; whose time comes first; who is oldest.
CREATE INDEX IF NOT EXISTS messages_ready ON messages (queue, lane, seq) WHERE phase = 0;
CREATE INDEX IF NOT EXISTS messages_due ON messages (queue, until_ms) WHERE phase <> 0;
CREATE INDEX IF NOT EXISTS messages_by_age ON messages (queue, sent_at_ms, seq);

-- FIFO only: one row for each group that has messages. Whoever holds this row's lock owns the
-- group: its messages change under no other. Deliverable groups are found without passing by
-- blocked ones.
CREATE TABLE IF NOT EXISTS lanes (
    queue   bigint  NOT NULL,
    lane    text COLLATE "C" NOT NULL,
    ready   integer NOT NULL,
    leased  integer NOT NULL,
    delayed integer NOT NULL,
    delayed_until_ms bigint NOT NULL,
    turn    bigint  NOT NULL,
    PRIMARY KEY (queue, lane)
) WITH (fillfactor = 50);
CREATE INDEX IF NOT EXISTS lanes_open ON lanes (queue, turn) WHERE leased = 0 AND ready > 0;

-- How many are where, in sixteen parts: each session adds to its own, so counting does not make
-- them wait for one another, and the sum costs the same at any depth.
CREATE TABLE IF NOT EXISTS tallies (
    queue     bigint   NOT NULL,
    part      smallint NOT NULL,
    messages  bigint   NOT NULL,
    in_flight bigint   NOT NULL,
    delayed   bigint   NOT NULL,
    bytes     bigint   NOT NULL,
    ids       bigint   NOT NULL,          -- deduplication ids remembered
    PRIMARY KEY (queue, part)
) WITH (fillfactor = 20);

-- Deduplication ids outlive their messages.
CREATE TABLE IF NOT EXISTS accepted (
    queue bigint NOT NULL,
    key   text COLLATE "C" NOT NULL,
    id    text   NOT NULL,
    seq   bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (queue, key)
);
CREATE INDEX IF NOT EXISTS accepted_by_age ON accepted (queue, expires_at_ms);

-- What a receive attempt got. `number` counts attempts over the whole store: the oldest are
-- forgotten first.
CREATE TABLE IF NOT EXISTS attempts (
    queue   bigint NOT NULL,
    attempt text COLLATE "C" NOT NULL,
    number  bigint NOT NULL UNIQUE,
    expires_at_ms bigint NOT NULL,
    seqs    bigint[] NOT NULL,
    epochs  bigint[] NOT NULL,
    PRIMARY KEY (queue, attempt)
);
