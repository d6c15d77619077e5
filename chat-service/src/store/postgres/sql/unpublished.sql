SELECT id, last_seq, members_version FROM conversations WHERE published < last_seq LIMIT $1;
