-- The journal of the SQLite answer: what is needed to come back as we were.
-- No index but the primary keys: every question is answered in memory.

CREATE TABLE IF NOT EXISTS queues (
    number   INTEGER PRIMARY KEY,   -- never reused: a receipt names its queue by it
    region   TEXT NOT NULL,
    name     TEXT NOT NULL,
    settings TEXT NOT NULL,         -- JSON
    UNIQUE (region, name)
);

CREATE TABLE IF NOT EXISTS messages (
    seq      INTEGER PRIMARY KEY,   -- the row id: an insert appends
    queue    INTEGER NOT NULL,
    id       BLOB NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    delayed_until_ms INTEGER NOT NULL, -- 0: not delayed
    epoch    INTEGER NOT NULL,      -- leases before it came into this queue
    source   TEXT,                  -- JSON: the queue it was given up in
    content  TEXT NOT NULL          -- JSON
);

-- Apart from the messages, because a lease changes often and a row is rewritten whole: with the
-- body beside it, every receive of a large message would write the message again.
CREATE TABLE IF NOT EXISTS leases (
    seq      INTEGER PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    receives INTEGER NOT NULL,
    first_received_at_ms INTEGER NOT NULL,
    since_ms INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
);

-- Deduplication ids outlive their messages.
CREATE TABLE IF NOT EXISTS accepted (
    queue    INTEGER NOT NULL,
    key      TEXT NOT NULL,
    id       BLOB NOT NULL,
    seq      INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS accepted_by_age ON accepted (expires_at_ms);

-- `version` is raised by every change: the state in memory knows which version it is.
-- `last_*` are the highest numbers ever given out.
CREATE TABLE IF NOT EXISTS store (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    version  INTEGER NOT NULL,
    last_queue_number INTEGER NOT NULL,
    last_seq INTEGER NOT NULL
);
INSERT OR IGNORE INTO store VALUES (1, 0, 0, 0);
