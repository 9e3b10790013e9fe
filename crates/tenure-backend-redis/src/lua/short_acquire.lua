-- A claim that is 'plain', for all seats, forced by nobody and sent for the first time, of a lock that
-- nobody holds or waits for: answers 1. Fence and beginning are `now`.
local nows = now_packed .. now_packed .. now_packed
local leases = {}

-- What plain claims with these wishes have in common; see `turn` for the wishes.
local function lease_by(what)
  local it = lease_of(tonumber(sub(what, 1, 13)))
  it.rest = nows .. it.tail .. (sub(what, 14, 14) == '1' and '\1' or '\0') .. '\160\160'
  it.lives = it.over + DAY
  it.fence_ends = format('%016.0f', now) .. it.ends
  leases[what] = it
  return it
end

local function short(k, c, verb, member, what, origin)
  if verb ~= 'plain' then return end
  local it = leases[what] or lease_by(what)
  local p = call('HGET', c, 'p')
  -- Without it there is no cell.
  if p and (sub(p, 1, 1) ~= 'i' or now <= tonumber(sub(p, 19, 34)))
    or not call('SET', k, member, 'NX', 'PXAT', it.at) then
    return
  end
  local holder = ONE .. member .. END .. it.ends .. it.rest
  if p and it.lives <= tonumber(sub(p, 3, 18)) then
    call('HSET', c, 'p', 'h' .. sub(p, 2, 18) .. it.fence_ends, 'h', holder, 'd', origin)
  else
    -- By a day more than it has to, so that it is seldom asked for.
    local expires = it.lives + DAY
    local n = p and string.byte(p, 2) - 65 or 0
    call('HSET', c, 'p', plain('h', n, expires, now, it.ends), 'h', holder, 'd', origin)
    call('PEXPIREAT', c, format('%.0f', expires / 1000))
  end
  return 1
end
