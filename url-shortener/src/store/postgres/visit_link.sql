-- One statement decides and charges, so two visitors never share the last visit.
UPDATE links SET visits = visits + 1
WHERE code = $1 AND state <> 2 AND visits < max_visits
RETURNING max_visits - visits
