-- SQL has granted: the entries that were there when it was asked have less left.
-- KEYS: an entry for each line. ARGV: time, the first moment at which the hold may be over, then
-- for each line the look its entry came from ('' for none) and the quantity.
for line, key in ipairs(KEYS) do
  local look, quantity = ARGV[1 + 2 * line], ARGV[2 + 2 * line]
  local entry = redis.call('HMGET', key, 'look', 'until')
  -- An entry from a later look may have counted this grant already: leaving it alone makes it
  -- too high, which costs a question to SQL; counting twice would turn a buyer away.
  if look ~= '' and entry[1] == look then
    redis.call('HINCRBY', key, 'left', -quantity)
    if tonumber(ARGV[2]) < tonumber(entry[2]) then redis.call('HSET', key, 'until', ARGV[2]) end
  end
end
