-- Links are never removed: a deleted one keeps its code, so that nobody else can have it.
CREATE TABLE IF NOT EXISTS links (
    id            BIGINT  PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    code          TEXT    COLLATE "C" NOT NULL UNIQUE, -- the constraint that decides every race
    version       BIGINT  NOT NULL,
    state         SMALLINT NOT NULL,                   -- 0 enabled, 1 disabled, 2 deleted
    target        TEXT    NOT NULL,
    owner         TEXT    COLLATE "C" NOT NULL,
    created_at_ms BIGINT  NOT NULL,
    expires_at_ms BIGINT,
    max_visits    BIGINT,
    visits        BIGINT  NOT NULL DEFAULT 0,          -- only counted while max_visits is set
    redirect      SMALLINT NOT NULL,
    tags          TEXT[]  NOT NULL,
    unlisted      BOOLEAN NOT NULL,
    -- By the server's clock, for indexes to find what they missed.
    changed_at_us BIGINT  NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
);
CREATE INDEX IF NOT EXISTS links_by_owner ON links (owner, id);
CREATE INDEX IF NOT EXISTS links_by_change ON links (changed_at_us);

-- What a create with an Idempotency-Key was told, written with the link it made.
CREATE TABLE IF NOT EXISTS replies (
    owner         TEXT   COLLATE "C" NOT NULL,
    key           TEXT   COLLATE "C" NOT NULL,
    fingerprint   BYTEA  NOT NULL,
    code          TEXT   NOT NULL,
    reply         BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE INDEX IF NOT EXISTS replies_by_age ON replies (created_at_ms);

CREATE TABLE IF NOT EXISTS sequences (
    name TEXT   PRIMARY KEY,
    next BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS installation (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    secret BYTEA   NOT NULL
);

CREATE TABLE IF NOT EXISTS click_writers (
    writer TEXT   PRIMARY KEY,
    number BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS link_days (
    link_id BIGINT NOT NULL,
    day     BIGINT NOT NULL,
    tally   BYTEA, -- NULL only inside the transaction that makes the row
    PRIMARY KEY (link_id, day)
);

CREATE TABLE IF NOT EXISTS api_keys (
    id            TEXT   COLLATE "C" PRIMARY KEY,
    name          TEXT   NOT NULL,
    hash          BYTEA  NOT NULL,
    created_at_ms BIGINT NOT NULL
);
