UPDATE members SET sent = sent + 1, last_own = ?3 WHERE conversation = ?1 AND user = ?2;
