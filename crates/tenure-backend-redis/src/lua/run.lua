-- Takes the turns.
local replies = {}
for i = 1, #KEYS / 2 do
  local t, k, c = unpack(ARGV[i + 1]), KEYS[2 * i - 1], KEYS[2 * i]
  local f, simple = load(c), quick[t[1]]
  local reply = simple and simple(t, k, c, f)
  if not reply then
    begin(k, c, f)
    reply = verbs[t[1]](t)
    finish()
  end
  replies[i] = reply
end
return replies
