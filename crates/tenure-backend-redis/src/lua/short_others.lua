-- The words of a turn: verb, member, and what else the verb needs.
--
-- A release without a value of the holder of all seats of a lock that nobody waits for: answers 1.
-- A renewal that changes nothing of a single holder of all seats who does not wait, its ttl given as
-- digits: answers the fence.
local released_until = format('%016.0f', now + REMEMBER)
local leases = {}

local function release(k, c, member)
  local f = call('HMGET', c, 'e', 'q', 'n')
  if (f[1] or '') == '' or (f[2] or '') ~= '' or tonumber(f[1]) <= now or call('GET', k) ~= member then
    return
  end
  local n = ((f[3] or 0) + 1) % MAX_RELEASED
  call('DEL', k)
  call('HSET', c, 'h', '', 'e', '', 'n', n, 'r' .. n, sub(member, 1, RELEASED_ID) .. released_until)
  return 1
end

local function renew(k, c, member, ttl)
  local f = call('HMGET', c, 'h', 'q')
  local h = f[1]
  if not h or sub(h, 1, 68) ~= ONE .. member or f[2] and string.find(f[2], member, 1, true) then
    return
  end
  local it, over = leases[ttl] or lease_of(tonumber(ttl)), tonumber(sub(h, 70, 85))
  leases[ttl] = it
  -- Fence, since and renewed take nine bytes each.
  if over <= now or it.over < over or sub(h, 113, 112 + #it.tail) ~= it.tail or call('GET', k) ~= member then
    return
  end
  call('PEXPIREAT', k, it.at)
  call('HSET', c, 'h', sub(h, 1, 69) .. it.ends .. sub(h, 86, 103) .. now_packed .. sub(h, 113), 'e', it.ends)
  local _, fence = cmsgpack.unpack_one(h, 85)
  return fence
end

local function short(k, c, i)
  local verb, member, what = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if verb == 'release' and what == '' then return release(k, c, member) end
  if verb == 'renew' then return renew(k, c, member, what) end
end
