-- The lock's rules, the twin of tenure-core's machine, one turn after the other.
--
-- KEYS come in pairs, one per turn: the lock's own key, which any program may take with
-- SET NX PX and which holds the public id of an exclusive holder or SHARED; and its cell, a hash
-- with everything else. ARGV[1] says for how long the connection has been there, or nothing if whoever
-- hears nothing is granted seats all the same. A turn
-- is four words: a verb, a member, what else the verb needs, and where a claim comes from. If all turns
-- have all but the member in common, ARGV[2] is '1', these three follow, and then the members;
-- otherwise it is '0', and the words follow turn by turn. The reply is the server's time, which is what `now` means everywhere, and one
-- answer per turn; or the time alone, if there is one turn and its answer would be 1.
--
-- Durations and times are in microseconds.
--
-- What makes a script slow is functions that are made, with each local that they use of those outside,
-- every byte of every string that is made, and numbers as text. So short ways come first, in line: they
-- serve most turns, and only what they pass by makes the rules.
--
-- The field `p` of a cell has all that a plain turn has to know, if nobody waits, nothing is
-- remembered but releases, and there is no value: the number of the last release, the time when the cell
-- expires, and the fence. If somebody holds all seats, the end of its lease and its beginning follow, its
-- ttl, whether it is detached, and its id; where it comes from is in `d`. Otherwise `p` is empty, `f`,
-- `x` and `n` say the first three, and `h` who holds. Numbers are doubles, or a byte.

local call, try, KEYS, ARGV, format, sub = redis.call, redis.pcall, KEYS, ARGV, string.format, string.sub
local write, read = struct.pack, struct.unpack
-- How long `p` is if nobody holds the lock, and if somebody does; and where the parts begin of the latter.
local FREE, HELD, ENDS, BEGAN, HOLDER = 17, 106, 18, 26, 43
local DAY, REMEMBER = 86400 * 1000000, 600 * 1000000
-- How many releases are remembered, each in a field of its own, and how much of an id that takes.
local MAX_RELEASED, RELEASED_ID = 16, 16

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
