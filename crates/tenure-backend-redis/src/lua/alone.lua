-- A turn that is alone, as most are: nothing has to be made for it that others would share.
local alike, is_alone = ARGV[2] == '1', #KEYS == 2
if is_alone and alike then
  local answer = short(KEYS[1], KEYS[2], ARGV[3], ARGV[6], ARGV[4], ARGV[5])
  if answer == 1 then return now end
  if answer then return { now, answer } end
end

local spread, unpack, pack = unpack, cmsgpack.unpack, cmsgpack.pack

local function failed(why)
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end
