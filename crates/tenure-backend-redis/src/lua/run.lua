-- Takes the turns.
local replies, take = { now }, nil
for n = 1, #KEYS / 2 do
  local k, c, i = KEYS[2 * n - 1], KEYS[2 * n], 3 * n - 1
  local reply = short(k, c, i)
  if not reply then
    take = take or rules()
    reply = take(k, c, i)
  end
  replies[n + 1] = reply
end
return replies
