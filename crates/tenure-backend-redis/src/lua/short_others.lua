-- A release without a value of the holder of all seats of a lock that nobody waits for: answers 1.
-- Its renewal that changes nothing, the ttl given as 13 digits: answers the fence.

-- Until when releases are remembered, and what leases with this ttl have in common.
local until_when, ttl, over, ends, at

local function short(k, c, verb, member, what)
  local releases = verb == 'release' and what == ''
  if not releases and verb ~= 'renew' then return end
  local p = call('HGET', c, 'p')
  local was = p and sub(p, 1, 1) == 'h' and tonumber(sub(p, 35, 50))
  if not was or was <= now or call('GET', k) ~= member then return end
  if releases then
    local n = (string.byte(p, 2) - 64) % MAX_RELEASED
    until_when = until_when or format('%016.0f', now + REMEMBER)
    call('DEL', k)
    call('HSET', c, 'p', 'i' .. string.char(65 + n) .. sub(p, 3, 34), 'd', '',
      'r' .. n, sub(member, 1, RELEASED_ID) .. until_when)
    return 1
  end
  if what ~= ttl then
    ttl, over = what, now + what
    ends, at = format('%016.0f', over), math.ceil(over / 1000) + 1
  end
  if sub(p, 67, 79) ~= what or sub(p, 81, 144) ~= member or over < was
    -- The cell would end before it may: the long way prolongs it.
    or tonumber(sub(p, 3, 18)) < over + DAY then
    return
  end
  call('PEXPIREAT', k, at)
  call('HSET', c, 'p', sub(p, 1, 34) .. ends .. sub(p, 51))
  return tonumber(sub(p, 19, 34))
end
