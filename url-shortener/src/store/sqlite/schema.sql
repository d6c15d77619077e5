-- Links are never removed: a deleted one keeps its code, so that nobody else can have it.
CREATE TABLE IF NOT EXISTS links (
    id            INTEGER PRIMARY KEY,
    code          TEXT    NOT NULL UNIQUE, -- the constraint that decides every race for a code
    version       INTEGER NOT NULL,
    state         INTEGER NOT NULL,        -- 0 enabled, 1 disabled, 2 deleted
    target        TEXT    NOT NULL,
    owner         TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    max_visits    INTEGER,
    visits        INTEGER NOT NULL DEFAULT 0, -- only counted while max_visits is set
    redirect      INTEGER NOT NULL,
    tags          TEXT    NOT NULL,        -- a JSON array
    unlisted      INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS links_by_owner ON links (owner, id);

CREATE TABLE IF NOT EXISTS link_tags (
    owner   TEXT    NOT NULL,
    tag     TEXT    NOT NULL,
    link_id INTEGER NOT NULL,
    PRIMARY KEY (owner, tag, link_id)
) STRICT, WITHOUT ROWID;

-- What a create with an Idempotency-Key was told, written with the link it made.
CREATE TABLE IF NOT EXISTS replies (
    owner         TEXT    NOT NULL,
    key           TEXT    NOT NULL,
    fingerprint   BLOB    NOT NULL,
    code          TEXT    NOT NULL,
    reply         BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS replies_by_age ON replies (created_at_ms);

CREATE TABLE IF NOT EXISTS sequences (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS installation (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    secret BLOB NOT NULL
) STRICT;

-- Clicks come as a log of batches: one row for thousands of clicks is what keeps counting cheap.
-- The batches are folded into link_days later, a little at a time.
CREATE TABLE IF NOT EXISTS click_log (
    id   INTEGER PRIMARY KEY,
    rows BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS click_writers (
    writer TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS link_days (
    link_id INTEGER NOT NULL,
    day     INTEGER NOT NULL,
    tally   BLOB    NOT NULL,
    PRIMARY KEY (link_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS api_keys (
    id            TEXT PRIMARY KEY,
    name          TEXT    NOT NULL,
    hash          BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
