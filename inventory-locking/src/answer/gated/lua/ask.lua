-- Is this cart certain to be refused? Everything else is for SQL to decide.
-- KEYS: the memory of keys, the mark of this order's key, an entry for each line in SKU order.
-- ARGV: time, how long keys are remembered, whether there is a key, the quantities.
local now, memory_ms, keyed = now_ms(), tonumber(ARGV[2]), ARGV[3] == '1'
local answer, short, left = { 'pass', whole(now) }, nil, nil
local certain = true
for line = 1, #KEYS - 2 do
  local entry = redis.call('HMGET', KEYS[line + 2], 'left', 'until', 'look', 'run')
  local known = entry[1] and now < tonumber(entry[2])
  -- Of every known line, so that a grant is counted off it also where another line is unknown.
  answer[line + 2] = known and entry[3] or ''
  -- The error of a line before it would come first, so nothing is certain behind an unknown one.
  certain = certain and known
  if certain and tonumber(entry[1]) < tonumber(ARGV[line + 3]) then
    -- What a Redis that was restarted has kept may be older than what it has lost.
    if entry[4] == run_id() then
      short, left = line, entry[1]
      break
    end
    certain = false
  end
end

local marked = keyed and redis.call('EXISTS', KEYS[2]) == 1
if not short or marked then
  -- Marked before SQL is asked: a server that dies after the commit leaves a key that is known.
  if keyed then redis.call('SET', KEYS[2], 1, 'PX', math.max(memory_ms, 1)) end
  return answer
end

-- A key without a mark is new, if the memory is older than any repeat can be.
local since, run = unpack(redis.call('HMGET', KEYS[1], 'since', 'run'))
if run ~= run_id() then
  since = now
  redis.call('HSET', KEYS[1], 'since', whole(now), 'run', run_id())
end
local sure = not keyed or now - since >= memory_ms
return { sure and 'short' or 'perhaps-a-repeat', whole(short), left }
