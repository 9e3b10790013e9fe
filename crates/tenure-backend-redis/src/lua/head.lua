-- The lock's rules, the twin of tenure-core's machine, one turn after the other.
--
-- KEYS come in pairs, one per turn: the lock's own key, which any program may take with
-- SET NX PX and which holds the public id of an exclusive holder or SHARED; and its cell, a hash
-- with everything else. ARGV[1] is '1' if nobody who hears nothing is to be granted anything; then
-- come three words per turn, and behind them whatever several turns have in common. The reply is
-- the server's time, which is what `now` means everywhere, and one answer per turn.
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
-- How many releases are remembered, and how much of an id that takes.
local MAX_RELEASED, RELEASED_ID = 16, 16

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
