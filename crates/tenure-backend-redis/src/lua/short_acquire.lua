  -- A claim that is 'plain', for all seats, forced by nobody and sent for the first time, of a lock that
  -- nobody holds or waits for: answers 1. Fence and beginning are `now`. See `turn` for the wishes.
  if verb ~= 'plain' then break end
  if what ~= known then
    local ttl, detached = read('<dB', what)
    known, over = what, now + ttl
    lives, lease = over + DAY, write('<ddddB', now, over, now, ttl, detached)
    at = over + 2000
    at = format('%d%03d', at / 1000000, at % 1000000 / 1000)
  end
  local p, n, expires = try('HGET', c, 'p'), 0, 0
  -- Without it there is no cell.
  if p then
    if #p ~= FREE then break end
    local fence
    n, expires, fence = read('<Bdd', p)
    if now <= fence then break end
  end
  local set = try('SET', k, member, 'NX', 'PXAT', at)
  if not set or not set.ok then break end
  local prolonged = expires < lives
  -- By a day more than it has to, so that it is seldom asked for.
  if prolonged then expires = lives + DAY end
  answer = try('HSET', c, 'p', write('<Bd', n, expires) .. lease .. member, 'd', origin)
  if prolonged and type(answer) == 'number' then
    answer = try('PEXPIREAT', c, format('%d%03d', expires / 1000000, expires % 1000000 / 1000))
  end
  if type(answer) == 'number' then answer = 1 end
