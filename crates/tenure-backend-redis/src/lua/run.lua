-- Takes the turns.
local replies = {}
for i = 1, #KEYS / 2 do
  local t = unpack(ARGV[i + 1])
  begin(KEYS[2 * i - 1], KEYS[2 * i])
  replies[i] = verbs[t[1]](t)
  finish()
end
return replies
