-- One row per SKU: the hot row. The counters repeat what receipts and reservations say, so that
-- nobody has to add those up to sell one unit; the audit does add them up.
CREATE TABLE IF NOT EXISTS stock (
    sku       TEXT    PRIMARY KEY,
    available INTEGER NOT NULL CHECK (available >= 0), -- the seat belt
    held      INTEGER NOT NULL CHECK (held >= 0),
    sold      INTEGER NOT NULL CHECK (sold >= 0),
    version   INTEGER NOT NULL
) WITHOUT ROWID;

-- What came and went other than through reservations: the first stock, deliveries, corrections.
CREATE TABLE IF NOT EXISTS receipts (
    seq   INTEGER PRIMARY KEY,
    sku   TEXT    NOT NULL,
    delta INTEGER NOT NULL,
    key   TEXT    UNIQUE
);

-- state: 0 held, 1 confirmed, 2 cancelled, 3 expired.
CREATE TABLE IF NOT EXISTS reservations (
    id            BLOB    PRIMARY KEY,
    state         INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
    key           TEXT    UNIQUE,
    ttl_ms        INTEGER NOT NULL,
    granted_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- Only holds are in it, so finding the overdue ones costs nothing when there are none.
CREATE INDEX IF NOT EXISTS reservations_held ON reservations (expires_at_ms) WHERE state = 0;

CREATE TABLE IF NOT EXISTS reservation_lines (
    reservation_id BLOB    NOT NULL,
    sku            TEXT    NOT NULL,
    quantity       INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku)
) WITHOUT ROWID;
