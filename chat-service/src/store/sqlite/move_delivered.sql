UPDATE members SET delivered = max(delivered, ?3) WHERE conversation = ?1 AND user = ?2;
