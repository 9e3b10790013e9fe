-- Takes the turns. What fails for one, as when a key of its lock is of another type, fails for no
-- other lock.
local replies, take, close, open = { now }, nil, nil, nil
local verb, member, what, origin = ARGV[3], nil, ARGV[4], ARGV[5]
for n = 1, #KEYS / 2 do
  local k, c = KEYS[2 * n - 1], KEYS[2 * n]
  if alike then
    member = ARGV[5 + n]
  else
    verb, member, what, origin = ARGV[4 * n - 1], ARGV[4 * n], ARGV[4 * n + 1], ARGV[4 * n + 2]
  end
  local ok, reply = true, nil
  if k ~= open then
    if open then close(replies, n) end
    open = nil
    if not is_alone then ok, reply = pcall(short, k, c, verb, member, what, origin) end
  end
  if ok and not reply then
    if not take then take, close = rules() end
    open = k
    ok, reply = pcall(take, n, k, c, verb, member, what, origin)
  end
  replies[n + 1] = ok and reply or failed(reply)
end
if open then close(replies, #KEYS / 2 + 1) end
return replies
