-- Takes the turns.
local function take(t, k, c)
  local f, simple = load(c), quick[t[1]]
  local reply = simple and simple(t, k, c, f)
  if reply then return reply end
  begin(k, c, f)
  reply = verbs[t[1]](t)
  finish()
  return reply
end

local replies = {}
for i = 1, #KEYS / 2 do
  -- What fails for one lock, as when a key of it is of another type, fails for no other.
  local ok, reply = pcall(take, unpack(ARGV[i + 1]), KEYS[2 * i - 1], KEYS[2 * i])
  replies[i] = ok and reply or redis.error_reply(type(reply) == 'table' and reply.err or tostring(reply))
end
return replies
