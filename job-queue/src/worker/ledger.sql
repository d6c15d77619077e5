-- What was done. The primary key decides who does it; `epoch` is the highest fencing token seen.
CREATE TABLE IF NOT EXISTS jobs (
    key   TEXT PRIMARY KEY,
    epoch INTEGER NOT NULL,
    done  INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
