-- One step of deleting what was thrown away. ARGV: now. Answers whether there is more.
local base = call('LINDEX', P .. 'trash', 0)
if not base then return 0 end
local page = call('ZRANGE', base .. 'age', 0, SETTLE_MAX - 1)
for _, seq in ipairs(page) do
    local lane = call('HGET', base .. 'm:' .. seq, 'l')
    call('DEL', base .. 'm:' .. seq)
    if lane then call('UNLINK', base .. 'r:' .. lane) end
end
if #page > 0 then
    call('ZREM', base .. 'age', unpack(page))
    return 1
end
call('UNLINK', base .. 'age', base .. 'due', base .. 'turn', base .. 'n', base .. 'leased')
call('LPOP', P .. 'trash')
return 1
