-- A caller that was never seen has its whole quota.
local function unseen()
  return false
end
