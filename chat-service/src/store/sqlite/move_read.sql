UPDATE members SET read_seq = ?3, sent_up_to_read = ?4, delivered = max(delivered, ?3)
WHERE conversation = ?1 AND user = ?2;
