-- The schema most candidates draw. Do not copy it: README part 6 says what is wrong with it.
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL,
    receiver TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    text TEXT NOT NULL
);

CREATE INDEX IF NOT EXISTS by_pair ON history (sender, receiver, at_ms);

CREATE TABLE IF NOT EXISTS undelivered (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    receiver TEXT NOT NULL,
    message INTEGER NOT NULL
);

CREATE INDEX IF NOT EXISTS of_receiver ON undelivered (receiver, id);
