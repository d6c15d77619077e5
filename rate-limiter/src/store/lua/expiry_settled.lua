-- A state is kept until it has settled, and not a moment less: gone early, the caller would be given
-- a full quota early.
local function save(key, value, settles_us)
  write(key, value, math.ceil((now_us() + settles_us) / 1000))
end
