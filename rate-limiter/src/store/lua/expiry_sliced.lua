-- Time is cut into slices, and a state is kept at least to the end of the slice in which it settles.
-- So a state that is charged again and goes on to settle in the same slice keeps its expiry, and
-- may be changed in place: half of what it costs to write it whole.
--
-- Trade-off: the memory of a caller that went away is held up to two slices longer.
local SLICE_US = 10000000

-- Trap: all states of a slice would expire in one moment and Redis would stop for it, so each is kept
-- for some part of another slice, as the last digits of the clock have it.
local function save_settled_at(key, value, settled_us)
  local end_of_slice_us = (math.floor(settled_us / SLICE_US) + 1) * SLICE_US
  local spread_us = now_us() * 9973 % SLICE_US
  write(key, value, math.ceil((end_of_slice_us + spread_us) / 1000))
end

local function save(key, value, settles_us)
  save_settled_at(key, value, now_us() + settles_us)
end
