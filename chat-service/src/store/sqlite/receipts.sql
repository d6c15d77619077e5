SELECT user, delivered, read_seq FROM members WHERE conversation = ?1 ORDER BY user;
