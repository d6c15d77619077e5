-- Stock is about to come back: from now until `raised`, nothing is certain about these SKUs.
-- KEYS: entry, epoch and raises of each SKU. ARGV: time, name of this raise, how long it may last.
for at = 1, #KEYS, 3 do
  redis.call('DEL', KEYS[at])
  redis.call('SET', KEYS[at + 1], ARGV[2], 'PX', ARGV[3])
  redis.call('ZADD', KEYS[at + 2], now_ms() + ARGV[3], ARGV[2])
  redis.call('PEXPIRE', KEYS[at + 2], 2 * ARGV[3])
end
