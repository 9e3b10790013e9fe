-- Takes the turns. Those of one lock that follow each other take it up and store it once.
local replies = {}
-- The lock that is taken up, and the first of its turns.
local open, first

local function failed(why)
  return redis.error_reply(type(why) == 'table' and why.err or tostring(why))
end

-- Stores the lock that is taken up, whose last turn was `upto`.
local function close(upto)
  if not open then return end
  open = nil
  local ok, why = pcall(finish)
  for i = first, ok and 0 or upto do replies[i] = failed(why) end
end

local function take(i, t, k, c)
  if open ~= k then
    close(i - 1)
    local f, simple = load(c), quick[t[1]]
    local reply = simple and simple(t, k, c, f)
    if reply then return reply end
    begin(k, c, f)
    open, first = k, i
  end
  caller = nil
  return verbs[t[1]](t)
end

for i = 1, #KEYS / 2 do
  -- What fails for one lock, as when a key of it is of another type, fails for no other.
  local ok, reply = pcall(take, i, unpack(ARGV[i + 1]), KEYS[2 * i - 1], KEYS[2 * i])
  replies[i] = ok and reply or failed(reply)
end
close(#KEYS / 2)
return replies
