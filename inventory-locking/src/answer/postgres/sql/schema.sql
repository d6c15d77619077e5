-- Run by every server when it connects; the lock lets one of them do it.
BEGIN;
SELECT pg_advisory_xact_lock(6300720);

-- The one clock: the database's, whatever the servers think. clock_timestamp() and not now(),
-- which stands still for as long as a transaction waits for a lock.
DO $$
BEGIN
    IF to_regproc('inventory_now_ms') IS NULL THEN
        CREATE FUNCTION inventory_now_ms() RETURNS bigint LANGUAGE sql VOLATILE
        AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';
        CREATE FUNCTION inventory_refuse() RETURNS bigint LANGUAGE plpgsql VOLATILE
        AS 'BEGIN RAISE EXCEPTION ''not enough stock'' USING ERRCODE = ''IV001''; END';
    END IF;
END $$;

-- The stock of a SKU in one row (slot 0), spread over sixteen (slots 0 to 15), or with a row for
-- each unit that can be sold next (slots from 1000 on).
CREATE TABLE IF NOT EXISTS stock (
    sku       text COLLATE "C" NOT NULL,
    slot      integer NOT NULL,
    available bigint  NOT NULL CHECK (available >= 0), -- the seat belt
    held      bigint  NOT NULL CHECK (held >= 0),
    sold      bigint  NOT NULL CHECK (sold >= 0),
    version   bigint  NOT NULL,
    PRIMARY KEY (sku, slot)
) PARTITION BY RANGE (slot);

-- Few rows, updated again and again: no index covers the counters and half of each page stays
-- free, so an update writes the new row beside the old one and touches no index ("HOT").
CREATE TABLE IF NOT EXISTS stock_counters PARTITION OF stock
    FOR VALUES FROM (MINVALUE) TO (1000) WITH (fillfactor = 50);

-- Many rows, each updated a few times: here the index that finds a free one is worth its upkeep.
CREATE TABLE IF NOT EXISTS stock_units PARTITION OF stock
    FOR VALUES FROM (1000) TO (MAXVALUE) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS stock_units_free ON stock_units (sku, slot) WHERE available > 0;
CREATE INDEX IF NOT EXISTS stock_units_spent ON stock_units (sku, slot)
    WHERE available = 0 AND held = 0;

-- What came and went other than through reservations: the first stock, deliveries, corrections.
CREATE TABLE IF NOT EXISTS receipts (
    seq   bigserial PRIMARY KEY,
    sku   text COLLATE "C" NOT NULL,
    delta bigint NOT NULL,
    key   text UNIQUE
);

-- state: 0 held, 1 confirmed, 2 cancelled, 3 expired.
CREATE TABLE IF NOT EXISTS reservations (
    id            uuid     PRIMARY KEY,
    state         smallint NOT NULL CHECK (state BETWEEN 0 AND 3),
    key           text     UNIQUE,
    ttl_ms        bigint   NOT NULL,
    granted_at_ms bigint   NOT NULL,
    expires_at_ms bigint   NOT NULL
);
CREATE INDEX IF NOT EXISTS reservations_held ON reservations (expires_at_ms) WHERE state = 0;

CREATE TABLE IF NOT EXISTS reservation_lines (
    reservation_id uuid    NOT NULL,
    sku            text COLLATE "C" NOT NULL,
    slot           integer NOT NULL,
    quantity       bigint  NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (reservation_id, sku, slot)
);
COMMIT;
