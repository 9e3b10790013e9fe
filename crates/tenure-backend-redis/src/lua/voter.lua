-- A voter's rules, the twin of tenure-backend-quorum's `urn`, one turn after the other.
--
-- KEYS and ARGV are those of the lock scripts: a key and a hash beside it for each turn, and a verb, a
-- member, what else the verb needs, and where a ballot comes from. The key is the one that `SET key token
-- NX PX` makes; it ends by itself, and other programs may have it. The hash remembers: fence, who had
-- it raised (r) and for whom the key was set (m), in which round (n), with which fence (g); and members
-- whose time is over (x…) and rounds that were given up (z…), of which a ring (y…, i) keeps the last ones.
--
-- Durations and times are in microseconds.

local call, KEYS, ARGV, format, sub = redis.call, KEYS, ARGV, string.format, string.sub
local unpack, pack = cmsgpack.unpack, cmsgpack.pack
local DAY, REMEMBER, RING, MAX_WAITERS = 86400 * 1000000, 600 * 1000000, 64, 64
-- Above all rounds.
local ALL_ROUNDS = 2 ^ 53
-- How many are told that a lock is free: all of them at a time would split the votes.
local TOLD = 2
-- What this server is, as of the last time that somebody looked.
local RUN = 'tenure:run'

local function failed(why)
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end

local function digits(number) return format('%.0f', number) end

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local since, most, told

-- For how long no vote is given: as long as any lease may live that this server forgot when it was
-- started, or its data was lost. And how long that is, as the first said who asked for votes. It can be
-- made longer until votes are given; whoever names another time then is refused, and nobody else. What is
-- still known from before this start is not made longer: whoever was refused then would have it its way now.
local function quarantine(longest, asks)
  if not since then
    local id = string.match(call('INFO', 'server'), 'run_id:(%w+)')
    local f = call('HMGET', RUN, 'id', 'since', 'longest', 'told')
    since, most, told = tonumber(f[2] or 0), tonumber(f[3] or 0), tonumber(f[4] or 0)
    if not id or f[1] ~= id or now < since then
      since = now
      call('HSET', RUN, 'id', id or '', 'since', digits(now))
    end
  end
  if asks and most < longest and (most == 0 or told == since and now < since + most) then
    most, told = longest, since
    call('HSET', RUN, 'longest', digits(most), 'told', digits(told))
  end
  return since + (most > 0 and most or longest) - now, most
end

local key, cell, f

-- Reads what is remembered of a lock and of a member.
local function open(k, c, member)
  key, cell = k, c
  local m = sub(member, 1, 32)
  f = call('HMGET', c, 'f', 'r', 'm', 'n', 'l', 'x' .. m, 'z' .. m, 'i')
  f.fence, f.raiser, f.member = tonumber(f[1] or 0), f[2] or '', f[3] or ''
  f.round, f.lives, f.at = tonumber(f[4] or 0), tonumber(f[5] or 0), tonumber(f[8] or 0)
  f.key = call('GET', k)
  if f[6] then
    local gone = unpack(f[6])
    if now < gone[2] then f.gone = { gone[3], gone[4], gone[5] } end
  end
  f.late = f[7] and unpack(f[7])[2]
end

-- A member's time is over, or a round of it was given up: the last ones are remembered. One that is so
-- already keeps its place for half a round of the ring, so that who asks again and again takes no other's.
local function remember(field, what)
  local known = call('HGET', cell, field)
  local at = known and unpack(known)[1]
  if not at or RING / 2 <= (f.at - at) % RING then
    at = (f.at + 1) % RING
    f.at = at
    local old = call('HGET', cell, 'y' .. at)
    local there = old and old ~= field and call('HGET', cell, old)
    -- It may have been remembered again since, elsewhere.
    if there and unpack(there)[1] == at then call('HDEL', cell, old) end
    call('HSET', cell, 'y' .. at, field, 'i', at)
  end
  call('HSET', cell, field, pack({ at, what[1], what[2], what[3], what[4] }))
end

local function depart(member, how)
  remember('x' .. sub(member, 1, 32), { now + REMEMBER, how[1], how[2], how[3] })
end

-- Ballots of these rounds that are still on their way are refused.
local function too_late(member, round)
  remember('z' .. sub(member, 1, 32), { math.max(round, f.late or 0) })
end

local function departure(member)
  if f.gone then return f.gone end
  return { f.member == member and 'expired' or 'forgotten', '', '' }
end

-- The hash lives for a day or two after its last use; fences go on as times.
local function live_until(over)
  if f.lives < over + DAY then
    local lives = over + 2 * DAY
    call('HSET', cell, 'l', digits(lives))
    call('PEXPIREAT', cell, digits(math.ceil(lives / 1000)))
  end
end

-- Tells those who have asked in vain for longest, as far as they hear it; the others ask by themselves.
local function tell()
  local waiters = call('HGET', cell, 'c')
  if not waiters then return end
  local told = 0
  while told < TOLD do
    local _, stop, member, channel = string.find(waiters, '^(%S+) (%S+) ')
    if not stop then break end
    waiters = sub(waiters, stop + 1)
    told = told + call('PUBLISH', channel, cjson.encode({ key = key, look = member }))
  end
  if waiters == '' then call('HDEL', cell, 'c') else call('HSET', cell, 'c', waiters) end
end

-- Somebody asks in vain, and would like to be told.
local function wait(member, channel)
  local waiters = call('HGET', cell, 'c') or ''
  local _, count = string.gsub(waiters, ' ', '')
  if string.find(waiters, member, 1, true) or 2 * MAX_WAITERS <= count then return end
  call('HSET', cell, 'c', waiters .. member .. ' ' .. channel .. ' ')
end

local function free(member)
  call('DEL', key)
  call('HSET', cell, 'm', '', 'n', 0, 'g', '', 'r', f.raiser == member and '' or f.raiser)
  tell()
end

-- An id for whoever has the key: other programs' tokens are their secrets.
local function id_of(token)
  if #token == 64 and string.match(token, '^%x+$') then return token end
  return redis.sha1hex(token) .. string.rep('0', 24)
end

local function holder()
  local ends = call('PTTL', key)
  ends = ends < 0 and -1 or ends * 1000
  if f.key ~= f.member then return { id_of(f.key), 0, 0, now, now, ends, 0, '' } end
  local h = call('HMGET', cell, 'g', 's', 'w', 't', 'd')
  local number = function(n) return tonumber(h[n] or 0) or 0 end
  return { f.key, 1, number(1), number(2), number(3), ends, number(4), h[5] or '' }
end

local verbs = {}

-- 'vote' { round, ttl, longest, repair, waits }
function verbs.vote(member, t, origin)
  local for_long, longest = quarantine(t[3], true)
  if t[3] ~= longest then return { 'bound', longest } end
  if for_long > 0 then return { 'quarantined', for_long } end
  -- Its vote was lost here, and a majority says that its time is not over.
  local was_lost = t[4] == 1 and f.gone and f.gone[1] == 'expired'
  if f.gone and not was_lost then return { 'gone', f.gone } end
  if f.late and t[1] <= f.late then return { 'late' } end
  if f.key and f.key ~= member then
    if t[5] == 1 then
      wait(member, unpack(origin)[2])
      live_until(now)
    end
    return { 'taken', holder() }
  end
  if not f.key and f.member == member and t[4] == 0 then
    call('HSET', cell, 'm', '')
    depart(member, { 'expired', '', '' })
    return { 'gone', { 'expired', '', '' } }
  end
  if f.member ~= '' and f.member ~= member then depart(f.member, { 'expired', '', '' }) end
  if was_lost then call('HDEL', cell, 'x' .. sub(member, 1, 32)) end
  local over, own = now + t[2], 0
  if f.key then
    -- Never earlier than was promised before.
    over = math.max(over, now + call('PTTL', key) * 1000)
    if f.raiser == member then own = 1 end
  end
  call('SET', key, member, 'PXAT', digits(math.ceil(over / 1000) + 1))
  if f.key and f.member == member then
    call('HSET', cell, 'n', digits(math.max(t[1], f.round)), 'w', digits(now))
  else
    call('HSET', cell, 'm', member, 'n', digits(t[1]), 'g', '', 't', digits(t[2]), 's', digits(now),
      'w', digits(now), 'd', unpack(origin)[1])
  end
  live_until(over)
  return { 'given', f.fence, math.max(f.fence, now), own }
end

-- 'raise' { fence }
function verbs.raise(member, t)
  if f.key ~= member then return { 'not_held' } end
  local to = tonumber(t[1])
  if f.fence < to or (f.fence == to and f.raiser == member) then
    call('HSET', cell, 'f', t[1], 'r', member, 'g', t[1])
    return { 'done' }
  end
  return { 'outrun', f.fence }
end

-- 'keep' { change, ttl }
function verbs.keep(member, t)
  if f.key ~= member then
    if f.gone and (f.key or f.gone[1] ~= 'expired') then return { 'gone', f.gone } end
    return { f.key and 'taken' or 'absent' }
  end
  local h = call('HMGET', cell, 't', 's')
  local ttl = t[1] == 0 and tonumber(h[1]) or t[2]
  local over = math.max(now + ttl, now + call('PTTL', key) * 1000)
  call('PEXPIREAT', key, digits(math.ceil(over / 1000) + 1))
  call('HSET', cell, 'm', member, 't', digits(ttl), 'w', digits(now))
  live_until(over)
  return { 'kept', ttl, tonumber(h[2] or 0) }
end

-- 'abandon' { round, late }
function verbs.abandon(member, t)
  if t[2] == 1 then
    too_late(member, t[1])
    live_until(now)
  end
  if f.key ~= member or (f.member == member and t[1] < f.round) then
    return { 'not_held', departure(member) }
  end
  free(member)
  return { 'free' }
end

local function leave(member, how)
  if f.key == member then
    free(member)
    depart(member, { how, '', '' })
    live_until(now)
    return { 'free' }
  end
  local known = departure(member)
  local is_withdrawn = how == 'withdrawn' and known[1] == 'forgotten'
  if not f.gone or is_withdrawn then
    depart(member, is_withdrawn and { how, '', '' } or known)
    live_until(now)
  end
  -- What asks again for a vote that was lost is late, too.
  if known[1] == 'expired' then too_late(member, ALL_ROUNDS) end
  if f.member == member then call('HSET', cell, 'm', '') end
  return { 'not_held', known }
end

-- 'release' and 'withdraw'
function verbs.release(member) return leave(member, 'released') end
function verbs.withdraw(member) return leave(member, 'withdrawn') end

-- 'oust' { how, by, why, fence }, of a member or of another program by its id
function verbs.oust(member, t)
  local to = tonumber(t[4])
  if f.fence < to then
    call('HSET', cell, 'f', t[4], 'r', '')
    f.fence, f.raiser = to, ''
  end
  live_until(now)
  local how = { t[1], t[2], t[3] }
  if f.key and id_of(f.key) == member then
    free(f.key)
    depart(member, how)
    return { 'free' }
  end
  local known = departure(member)
  if known[1] == 'expired' or known[1] == 'forgotten' then depart(member, how) end
  if f.member == member then call('HSET', cell, 'm', '') end
  return { 'not_held', known }
end

-- 'look' { longest }
function verbs.look(_, t)
  local for_long, longest = quarantine(t[1], false)
  return { 'sight', f.fence, math.max(f.fence, now), math.max(for_long, 0), longest,
    f.key and holder() or {} }
end

local function turn(k, c, verb, member, what, origin)
  open(k, c, member)
  return verbs[verb](member, what ~= '' and unpack(what) or nil, origin)
end

local replies = { now }
local alike, verb, member, what, origin = ARGV[2] == '1', ARGV[3], nil, ARGV[4], ARGV[5]
for n = 1, #KEYS / 2 do
  if alike then
    member = ARGV[5 + n]
  else
    verb, member, what, origin = ARGV[4 * n - 1], ARGV[4 * n], ARGV[4 * n + 1], ARGV[4 * n + 2]
  end
  local ok, reply = pcall(turn, KEYS[2 * n - 1], KEYS[2 * n], verb, member, what, origin)
  replies[n + 1] = ok and reply or failed(reply)
end
return replies
