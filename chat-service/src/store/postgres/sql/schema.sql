-- One log per conversation, in the order of its sequence. Ids are 16 bytes; texts are bytes,
-- because a person may write a NUL and Postgres's text cannot hold one. Names are compared as
-- bytes, as everywhere else.
CREATE TABLE IF NOT EXISTS identity (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch bigint NOT NULL,
    token_key bytea NOT NULL
);

CREATE TABLE IF NOT EXISTS accounts (
    name text COLLATE "C" PRIMARY KEY,
    password_hash text NOT NULL,
    conversations bigint NOT NULL DEFAULT 0 -- how many they are in, for the bound
);

CREATE TABLE IF NOT EXISTS devices (
    owner text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    added_ms bigint NOT NULL,
    PRIMARY KEY (owner, device)
);

CREATE TABLE IF NOT EXISTS conversations (
    id bytea PRIMARY KEY,
    title bytea,
    admin text COLLATE "C", -- NULL between two people
    last_seq bigint NOT NULL DEFAULT 0, -- the sequence is allocated here, under this row
    published bigint NOT NULL DEFAULT 0, -- the outbox is a cursor too
    members_version bigint NOT NULL DEFAULT 1,
    member_count bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70); -- every append updates a row: room for its next version on its page

-- Only conversations somebody is owed an event of are in it, so it is nearly always empty.
CREATE INDEX IF NOT EXISTS conversations_unpublished ON conversations (id)
    WHERE published < last_seq;

CREATE TABLE IF NOT EXISTS directs (
    low text COLLATE "C" NOT NULL,
    high text COLLATE "C" NOT NULL,
    conversation bytea NOT NULL,
    PRIMARY KEY (low, high)
);

CREATE TABLE IF NOT EXISTS members (
    conversation bytea NOT NULL,
    member text COLLATE "C" NOT NULL,
    visible_after bigint NOT NULL,
    delivered bigint NOT NULL,
    read_seq bigint NOT NULL,
    sent bigint NOT NULL DEFAULT 0, -- own messages, those up to read_seq, and the last one:
    sent_up_to_read bigint NOT NULL DEFAULT 0, -- with these, unread is a subtraction
    last_own bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (conversation, member)
) WITH (fillfactor = 70);

CREATE INDEX IF NOT EXISTS members_of_account ON members (member, conversation);

CREATE TABLE IF NOT EXISTS cursors (
    owner text COLLATE "C" NOT NULL,
    device text COLLATE "C" NOT NULL,
    conversation bytea NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (owner, device, conversation)
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS messages (
    conversation bytea NOT NULL,
    seq bigint NOT NULL,
    sender text COLLATE "C" NOT NULL,
    client_id bytea NOT NULL,
    at_ms bigint NOT NULL,
    kind smallint NOT NULL, -- 0 text, 1 joined, 2 left: then the text is the user
    text bytea NOT NULL,
    PRIMARY KEY (conversation, seq)
);

-- One client id, one message, for as long as messages are kept. It also finds the original.
CREATE UNIQUE INDEX IF NOT EXISTS messages_by_client_id ON messages (sender, client_id);
