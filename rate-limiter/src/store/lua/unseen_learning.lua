-- The learning period: a caller that this primary has not seen may have been seen by the one before
-- it, so it counts as one that had used up everything when this one took over. One refill later
-- that is the same as a caller that was never seen.
--   ARGV[#ARGV]   since when this server has been the primary, in microseconds
local since = tonumber(ARGV[#ARGV])

local function unseen(limit)
  local algorithm, a, b, most = limit[1], limit[2], limit[3], limit[4]
  local _, _, used_up = algorithm(false, since, most, a, b, most)
  return used_up
end
