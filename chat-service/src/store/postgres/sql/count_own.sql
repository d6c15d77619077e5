UPDATE members SET sent = sent + $3, last_own = $4 WHERE conversation = $1 AND member = $2;
