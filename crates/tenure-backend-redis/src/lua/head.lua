-- The lock's rules, the twin of tenure-core's machine, one turn after the other.
--
-- KEYS come in pairs, one per turn: the lock's own key, which any program may take with
-- SET NX PX and which holds the public id of an exclusive holder or SHARED; and its cell, a hash
-- with everything else. ARGV[1] says for how long the connection has been there, or nothing if whoever
-- hears nothing is granted seats all the same. A turn
-- is four words: a verb, a member, what else the verb needs, and where a claim comes from. If all turns
-- have all but the member in common, ARGV[2] is '1', these three follow, and then the members;
-- otherwise it is '0', and the words follow turn by turn. The reply is the server's time, which is what `now` means everywhere, and one
-- answer per turn.
--
-- Durations and times are in microseconds.
--
-- What makes a script slow is functions that are made, and every byte of every string that is made.
-- So short ways come first: they serve most turns, and only what they pass by makes the rules.

local call, KEYS, ARGV, format, sub = redis.call, KEYS, ARGV, string.format, string.sub
local spread, unpack, pack = unpack, cmsgpack.unpack, cmsgpack.pack
local DAY, REMEMBER = 86400 * 1000000, 600 * 1000000
-- How the bytes of a single holder begin, with its id and its end at known places.
local ONE, END = '\145\159\217\064', '\176'
-- How many releases are remembered, each in a field of its own, and how much of an id that takes.
local MAX_RELEASED, RELEASED_ID = 16, 16

-- The field `p` of a cell has all that a plain turn has to know, if nobody waits, nothing is
-- remembered but releases, and there is no value: 'i' if nobody holds the lock or 'h' if somebody
-- holds all seats, a letter for the field of the last release, and 16 digits each for the time when
-- the cell expires, for the fence, and for the end of the lease if there is one. Otherwise it is
-- empty, and `f`, `x` and `n` say those.
local function plain(state, n, expires, fence, ends)
  return state .. string.char(65 + n) .. format('%016.0f%016.0f', expires, fence) .. (ends or '')
end

local function failed(why)
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local now_packed = pack(now)

-- What a lease of all seats with this ttl has in common with others that begin now.
local function lease_of(ttl)
  local over, packed = now + ttl, pack(ttl)
  return {
    over = over,
    ends = format('%016.0f', over),
    -- When the lock's own key ends: not before the lease.
    at = format('%.0f', math.ceil(over / 1000) + 1),
    -- Of the holder's bytes: term, neither handed over nor upgraded, its first claim, all seats, ttl.
    tail = packed .. '\0\194\160\0\0' .. packed,
  }
end
