SELECT user FROM members WHERE conversation = ?1 AND user <> ?2 LIMIT 1;
