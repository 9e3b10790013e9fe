  -- A release without a value of the holder of all seats of a lock that nobody waits for: answers 1.
  -- Its renewal that changes nothing: answers the fence.
  local releases = verb == 'release' and what == ''
  if not releases and verb ~= 'renew' then break end
  local p = try('HGET', c, 'p')
  if not p or #p ~= HELD then break end
  local n, expires, fence, ends, _, ttl = read('<Bddddd', p)
  if ends <= now or try('GET', k) ~= member then break end
  if releases then
    if try('DEL', k) ~= 1 then break end
    n = (n + 1) % MAX_RELEASED
    until_when = until_when or write('<d', now + REMEMBER)
    answer = try('HSET', c, 'p', write('<Bdd', n, expires, fence), 'd', '',
      'r' .. n, sub(member, 1, RELEASED_ID) .. until_when)
    if type(answer) == 'number' then answer = 1 end
    break
  end
  if what ~= known then
    known, over = what, now + read('<d', what)
    lives, lease, at = over + DAY, write('<d', over), over + 2000
    at = format('%d%03d', at / 1000000, at % 1000000 / 1000)
  end
  -- Otherwise the cell would end before it may, too: the long way prolongs it.
  if over ~= now + ttl or over < ends or expires < lives or sub(p, HOLDER) ~= member then break end
  if try('PEXPIREAT', k, at) ~= 1 then break end
  answer = try('HSET', c, 'p', sub(p, 1, ENDS - 1) .. lease .. sub(p, BEGAN))
  if type(answer) == 'number' then answer = fence end
