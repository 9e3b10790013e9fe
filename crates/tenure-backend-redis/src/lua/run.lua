-- Takes the turns. What fails for one, as when a key of its lock is of another type, fails for no
-- other lock.
local replies, is_alone, take, close, open = { now }, #KEYS == 2, nil, nil, nil
local verb, member, what, origin = ARGV[3], nil, ARGV[4], ARGV[5]
for turn = 1, #KEYS / 2 do
  local k, c = KEYS[2 * turn - 1], KEYS[2 * turn]
  if alike then
    member = ARGV[5 + turn]
  else
    verb, member, what, origin = ARGV[4 * turn - 1], ARGV[4 * turn], ARGV[4 * turn + 1], ARGV[4 * turn + 2]
  end
  answer = nil
  if k ~= open then
    if open then close(replies, turn) end
    open = nil
    if not is_alone then
      repeat
SHORT_WAY
      until true
    end
  end
  if not answer then
    if not take then take, close = rules() end
    open = k
    local ok, reply = pcall(take, turn, k, c, verb, member, what, origin)
    answer = ok and reply or failed(reply)
  end
  replies[turn + 1] = answer
end
if open then close(replies, #KEYS / 2 + 1) end
return replies
