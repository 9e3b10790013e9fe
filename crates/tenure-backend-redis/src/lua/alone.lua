-- The short way of a turn, in line wherever one is taken, sets `answer`, or breaks off before it has
-- changed anything. What turns with the same words have in common is made once.
local alike, known, over, lives, at, lease, until_when, answer = ARGV[2] == '1'

-- A turn that is alone, as most are: nothing has to be made for it that others would share.
if alike and #KEYS == 2 then
  local k, c, verb, what, origin, member = KEYS[1], KEYS[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
  repeat
SHORT_WAY
  until true
  if answer == 1 then return now end
  if answer then return { now, answer } end
end

local spread, unpack, pack = unpack, cmsgpack.unpack, cmsgpack.pack

local function failed(why)
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end
