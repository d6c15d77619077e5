-- ARGV: now, region, after, how many. Answers name, settings for each.
local after = ARGV[3] == '' and '-' or '(' .. ARGV[3]
local names = call('ZRANGEBYLEX', P .. 'list:' .. ARGV[2], after, '+', 'LIMIT', 0, ARGV[4])
local listed = {}
for _, name in ipairs(names) do
    listed[#listed + 1] = {name, open(ARGV[2] .. '\n' .. name).json}
end
return listed
