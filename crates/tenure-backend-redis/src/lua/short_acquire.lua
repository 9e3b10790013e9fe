-- A claim that is 'plain', for all seats, forced by nobody and sent for the first time, of a lock that
-- nobody holds or waits for: answers 1. Fence and beginning are `now`.

-- What plain claims with these wishes have in common; see `turn` for the wishes.
local wishes, lives, at, lease

local function short(k, c, verb, member, what, origin)
  if verb ~= 'plain' then return end
  if what ~= wishes then
    local over, begins = now + sub(what, 1, 13), format('%016.0f', now)
    wishes, lives = what, over + DAY
    -- When the lock's own key ends: not before the lease.
    at = math.ceil(over / 1000) + 1
    lease = begins .. format('%016.0f', over) .. begins .. sub(what, 1, 14)
  end
  local p = call('HGET', c, 'p')
  -- Without it there is no cell.
  if p and (sub(p, 1, 1) ~= 'i' or now <= tonumber(sub(p, 19, 34)))
    or not call('SET', k, member, 'NX', 'PXAT', at) then
    return
  end
  if p and lives <= tonumber(sub(p, 3, 18)) then
    call('HSET', c, 'p', 'h' .. sub(p, 2, 18) .. lease .. member, 'd', origin)
  else
    -- By a day more than it has to, so that it is seldom asked for.
    local expires, n = lives + DAY, p and sub(p, 2, 2) or 'A'
    call('HSET', c, 'p', 'h' .. n .. format('%016.0f', expires) .. lease .. member, 'd', origin)
    call('PEXPIREAT', c, math.ceil(expires / 1000))
  end
  return 1
end
