
-- The lock that is taken up, and the number of the first turn that is not stored yet.
local open, first

-- Stores the lock that is taken up, before turn `n`; if that fails, so did the turns before.
local function close(replies, n)
  if not open then return end
  open = nil
  local ok, why = pcall(finish)
  for i = first, ok and 0 or n - 1 do replies[i + 1] = failed(why) end
end

-- Turns of one lock that follow each other take it up and store it once.
local function take(n, k, c, verb, member, what, origin)
  asking = origin ~= '' and member
  if open ~= k then
    begin(k, c)
    open, first = k, n
  end
  caller = nil
  local reply = turn(verb, member, what, origin)
  if denied then reply, denied = failed(denied), nil end
  return reply
end

return take, close

end
