-- One log per conversation, clustered by place: a page of history is one range of one b-tree.
CREATE TABLE IF NOT EXISTS identity (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL,
    token_key BLOB NOT NULL
);

CREATE TABLE IF NOT EXISTS accounts (
    user TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    conversations INTEGER NOT NULL DEFAULT 0 -- how many they are in, for the bound
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS devices (
    user TEXT NOT NULL,
    device TEXT NOT NULL,
    added_ms INTEGER NOT NULL,
    PRIMARY KEY (user, device)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS conversations (
    id BLOB PRIMARY KEY,
    title TEXT,
    admin TEXT, -- NULL between two people
    last_seq INTEGER NOT NULL DEFAULT 0, -- the sequence is allocated here, under this row
    published INTEGER NOT NULL DEFAULT 0, -- the outbox is a cursor too
    members_version INTEGER NOT NULL DEFAULT 1,
    member_count INTEGER NOT NULL
) WITHOUT ROWID;

-- Only conversations somebody is owed an event of are in it, so it is nearly always empty.
CREATE INDEX IF NOT EXISTS unpublished ON conversations (id) WHERE published < last_seq;

CREATE TABLE IF NOT EXISTS directs (
    low TEXT NOT NULL,
    high TEXT NOT NULL,
    conversation BLOB NOT NULL,
    PRIMARY KEY (low, high)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS members (
    conversation BLOB NOT NULL,
    user TEXT NOT NULL,
    visible_after INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0, -- own messages, those up to read_seq, and the last one:
    sent_up_to_read INTEGER NOT NULL DEFAULT 0, -- with these, unread is a subtraction
    last_own INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, user)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS members_of_user ON members (user, conversation);

CREATE TABLE IF NOT EXISTS cursors (
    user TEXT NOT NULL,
    device TEXT NOT NULL,
    conversation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (user, device, conversation)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS messages (
    conversation BLOB NOT NULL,
    seq INTEGER NOT NULL,
    sender TEXT NOT NULL,
    client_id BLOB NOT NULL,
    at_ms INTEGER NOT NULL,
    kind INTEGER NOT NULL, -- 0 text, 1 joined, 2 left: then the text is the user
    text TEXT NOT NULL,
    PRIMARY KEY (conversation, seq)
) WITHOUT ROWID;

-- One client id, one message, for as long as messages are kept. It also finds the original.
CREATE UNIQUE INDEX IF NOT EXISTS by_client_id ON messages (sender, client_id);
