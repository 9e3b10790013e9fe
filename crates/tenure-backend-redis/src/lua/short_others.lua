-- A release without a value of the holder of all seats of a lock that nobody waits for: answers 1.
-- Its renewal that changes nothing, the ttl given as digits: answers the fence.
local released_until = format('%016.0f', now + REMEMBER)
local leases = {}

local function release(k, c, member)
  local p = call('HGET', c, 'p')
  if not p or sub(p, 1, 1) ~= 'h' or tonumber(sub(p, 35)) <= now or call('GET', k) ~= member then
    return
  end
  local n = (string.byte(p, 2) - 64) % MAX_RELEASED
  call('DEL', k)
  call('HSET', c, 'h', '', 'd', '', 'p', 'i' .. string.char(65 + n) .. sub(p, 3, 34),
    'r' .. n, sub(member, 1, RELEASED_ID) .. released_until)
  return 1
end

local function renew(k, c, member, ttl)
  local f = call('HMGET', c, 'p', 'h')
  local p, h = f[1], f[2]
  if not p or sub(p, 1, 1) ~= 'h' or sub(h, 1, 68) ~= ONE .. member then return end
  local it, over = leases[ttl] or lease_of(tonumber(ttl)), tonumber(sub(p, 35))
  leases[ttl] = it
  -- Fence, since and renewed take nine bytes each.
  if over <= now or it.over < over or sub(h, 113, 112 + #it.tail) ~= it.tail
    -- The cell would end before it may: the long way prolongs it.
    or tonumber(sub(p, 3, 18)) < it.over + DAY or call('GET', k) ~= member then
    return
  end
  call('PEXPIREAT', k, it.at)
  call('HSET', c, 'p', sub(p, 1, 34) .. it.ends,
    'h', sub(h, 1, 69) .. it.ends .. sub(h, 86, 103) .. now_packed .. sub(h, 113))
  return tonumber(sub(p, 19, 34))
end

local function short(k, c, verb, member, what)
  if verb == 'release' and what == '' then return release(k, c, member) end
  if verb == 'renew' then return renew(k, c, member, what) end
end
