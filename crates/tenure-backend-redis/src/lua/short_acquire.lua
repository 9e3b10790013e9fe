-- The words of a turn: claim, member, and where its wishes stand in ARGV. A claim without an id is
-- plain: for all seats, forced by nobody, and sent for the first time.
--
-- A plain claim of a lock that nobody holds or waits for: answers 1. Fence and beginning are `now`.
local now_digits, nows = format('%.0f', now), now_packed .. now_packed .. now_packed
local leases = {}

-- What the plain claims of these wishes have in common; see `turn` for the wishes.
local function lease_at(at)
  local wishes = unpack(ARGV[at + 0])
  local it = lease_of(wishes[1])
  it.rest = nows .. it.tail .. pack(wishes[12]) .. '\160\160'
  it.origin = pack({ wishes[13], wishes[14] })
  it.lives = it.over + DAY
  leases[at] = it
  return it
end

local function short(k, c, i)
  if ARGV[i] ~= '' then return end
  local member, at = ARGV[i + 1], ARGV[i + 2]
  local it = leases[at] or lease_at(at)
  local f = call('HMGET', c, 'f', 'h', 'q', 's', 'x')
  if (f[2] or '') ~= '' or (f[3] or '') ~= '' or (f[4] or '') ~= '' or f[1] and now <= tonumber(f[1])
    or not call('SET', k, member, 'NX', 'PXAT', it.at) then
    return
  end
  local holder = ONE .. member .. END .. it.ends .. it.rest
  if it.lives <= tonumber(f[5] or 0) then
    call('HSET', c, 'f', now_digits, 'h', holder, 'e', it.ends, 'd', it.origin)
  else
    local expires = it.lives + DAY
    call('HSET', c, 'f', now_digits, 'h', holder, 'e', it.ends, 'd', it.origin, 'x', format('%.0f', expires))
    call('PEXPIREAT', c, format('%.0f', expires / 1000))
  end
  return 1
end
