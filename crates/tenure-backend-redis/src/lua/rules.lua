-- The rules, made when the first turn needs them. `rules` answers the function that takes a turn.
local function rules()

-- Fields of a holder. From CLAIM on they never change, and come from the client as they are stored.
local MEMBER, FENCE, SINCE, RENEWED, TERM, HANDED, UPGRADE = 1, 3, 4, 5, 6, 7, 8
local CLAIM, TAKE, OF, TTL, DETACHED, DETAILS, CHANNEL = 9, 10, 11, 12, 13, 14, 15
-- Fields of a waiter, beside MEMBER and those from CLAIM on.
local ARRIVAL, UNTIL, PICK_UP, ORDER, WAIT_TTL, OR_VALUE, UPGRADES, PRIORITY =
  2, 3, 4, 5, 6, 7, 8, 16

local SHARED = 'tenure:shared'
local AGING = 30 * 1000000
-- How often somebody looks whether another program still has its lock.
local LOOK = 500000
local MAX_MEMBERS, MAX_DEPARTED, MAX_TOMBSTONES = 4096, 48, 1024
-- The most bytes of holders or of waiters: what is longer would make every turn slow.
local MAX_PART = 2 * 1024 * 1024

local function digits(n) return format('%.0f', n) end

-- How long those who hear nothing are given to come back, if the connection of whoever asks is that
-- young: after a restart or a failover all are, and nobody knows yet who is gone.
local GRACE = 2 * 1000000
local age = tonumber(ARGV[1])
-- How many of those who wait are looked through for one who is told of a hand-over.
local MAX_ASIDE = 16

-- Of the turn under way.
local key, cell, fence, last, holders, others, withdrawn, value, expires
-- How many were released, and of the last of them: the start of the id, and until when that is kept.
local count, released, new_released
local key_was, foreign, caller
local changed_holders, changed_rest, new_value
-- Whether `p` says who holds.
local was_plain
-- Whether free seats are kept for somebody who is about to come back; and whose claim it is that is told
-- when to ask again.
local kept, asking

local function decoded(part) return part and part ~= '' and unpack(part) or {} end
