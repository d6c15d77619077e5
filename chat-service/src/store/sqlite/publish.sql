UPDATE conversations SET published = min(?2, last_seq) WHERE id = ?1 AND published < ?2;
