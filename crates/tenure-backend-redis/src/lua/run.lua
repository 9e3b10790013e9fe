-- Takes the turns.
local replies, take = { now }, nil
local alike, verb, member, what = ARGV[2] == '1', ARGV[3], nil, ARGV[4]
for n = 1, #KEYS / 2 do
  local k, c = KEYS[2 * n - 1], KEYS[2 * n]
  if alike then
    member = ARGV[4 + n]
  else
    verb, member, what = ARGV[3 * n], ARGV[3 * n + 1], ARGV[3 * n + 2]
  end
  local reply = short(k, c, verb, member, what)
  if not reply then
    take = take or rules()
    reply = take(k, c, verb, member, what)
  end
  replies[n + 1] = reply
end
return replies
