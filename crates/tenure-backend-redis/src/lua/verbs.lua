-- Everything else that is asked of a lock.

-- { 'withdraw', member, claim, keep }: gives back whatever the claim has, and remembers that it must
-- never be granted. Replies { 'done' }.
function verbs.withdraw(t)
  local member, claim = t[2], t[3]
  caller = member
  bury(claim, t[4])
  for i = #queue, 1, -1 do
    if queue[i][CLAIM] == claim then
      table.remove(queue, i)
      changed_queue = true
    end
  end
  local h = find(holders, MEMBER, member)
  if h and h[CLAIM] == claim then
    depart(member, 'withdrawn')
  elseif h and h[UPGRADE] then
    local claims = h[UPGRADE][3]
    for i = #claims, 1, -1 do
      if claims[i] == claim then table.remove(claims, i) end
    end
    if #claims == 0 then
      h[TAKE], h[OF], h[UPGRADE] = h[UPGRADE][1], h[UPGRADE][2], false
    end
    changed_holders = true
  end
  serve()
  return { 'done' }
end

-- { 'renew', member, change, ttl, detached, ... }: a sign of life; with `change` 1 also a new ttl.
-- Never makes a lease anew. Replies { 'holding', grant }, { 'waiting' } or { 'gone', how }.
function verbs.renew(t)
  local member = t[2]
  caller = member
  local h = find(holders, MEMBER, member)
  if h then
    local over = until_of(h)
    if t[3] == 1 then h[TTL], h[DETACHED] = t[4], t[5] end
    -- Never earlier than was promised before.
    h[RENEWED], h[TERM], h[HANDED] = now, math.max(h[TTL], over - now), 0
    changed_holders = true
    refresh_place(member)
    return { 'holding', grant_of(h) }
  end
  if find(queue, MEMBER, member) then
    refresh_place(member)
    return { 'waiting' }
  end
  return { 'gone', departure(member) }
end

-- { 'downgrade', member, fence, take, of, keep }: some of the seats that were granted under this
-- fence. Replies { 'done', grant }, { 'not_held', how }, { 'mismatch', of } or { 'needs_all' }.
function verbs.downgrade(t)
  local member, take, of = t[2], t[4], t[5]
  local h = find(holders, MEMBER, member)
  if not h or digits(h[FENCE]) ~= t[3] then return { 'not_held', departure(member) } end
  local other = other_limit(of, member)
  if other then return { 'mismatch', other } end
  if h[TAKE] ~= take or h[OF] ~= of then
    if h[OF] ~= 0 then return { 'needs_all' } end
    local claims = h[UPGRADE] and h[UPGRADE][3] or {}
    h[TAKE], h[OF], h[UPGRADE] = take, of, false
    changed_holders = true
    for i = 1, #claims do bury(claims[i], math.max(h[TTL], 60000000)) end
  end
  local grant = grant_of(h)
  serve()
  return { 'done', grant }
end

-- A release without a value of the only holder, for whom nobody waits. Replies 1.
function quick.release(t, k, c, f)
  local member, h = t[2], f[2]
  if t[3] == 1 or not h or string.sub(h, 1, 68) ~= ONE .. member or f[3] and f[3] ~= ''
    or f[5] and f[5] ~= '' or tonumber(string.sub(h, 70, 85)) <= now or call('GET', k) ~= member then
    return
  end
  local all = (f[4] or '') .. string.sub(member, 1, RELEASED_ID) .. released_until
  if #all > MAX_RELEASED * RELEASED_SIZE then
    all = string.sub(all, RELEASED_SIZE + 1)
  end
  call('DEL', k)
  call('HSET', c, 'h', '', 'r', all)
  return 1
end

-- { 'release', member, has_value, bytes, keep }: gives the seats back, with a value if one is given,
-- and hands over. Replies 1 or { 'released' }, { 'not_held', how } or { 'needs_all' }.
function verbs.release(t)
  local member = t[2]
  local h = find(holders, MEMBER, member)
  if not h then
    local how = departure(member)
    if how[1] == 'released' then return how end
    -- The cell was lost, and the key was not: it is given back all the same.
    if foreign and key_was == member then
      foreign, changed_holders = nil, true
      serve()
    end
    return { 'not_held', how }
  end
  if t[3] == 1 then
    if h[OF] ~= 0 then return { 'needs_all' } end
    write_value(t[4], t[5], h[FENCE])
  end
  depart(member, 'released')
  serve()
  return { 'released' }
end

-- { 'put', member, bytes, keep }: writes the value. Replies as `downgrade`.
function verbs.put(t)
  local h = find(holders, MEMBER, t[2])
  if not h then return { 'not_held', departure(t[2]) } end
  if h[OF] ~= 0 then return { 'needs_all' } end
  write_value(t[3], t[4], h[FENCE])
  return { 'done', grant_of(h) }
end

-- { 'evict', only_if, stolen, by, why }: ends the holder with this fence, or all of them, whatever
-- program they are, and raises the fence. Replies { 'evicted', views }, { 'nobody' } or
-- { 'moved', views }.
function verbs.evict(t)
  local victims, members = {}, {}
  for i = 1, #holders do
    local h = holders[i]
    if t[2] == '' or digits(h[FENCE]) == t[2] then
      victims[#victims + 1], members[#members + 1] = view_of(h), h[MEMBER]
    end
  end
  if foreign and (t[2] == '' or t[2] == '0') then
    local all = views()
    victims[#victims + 1] = all[#all]
    foreign, changed_holders = nil, true
  end
  if #victims == 0 then
    if #holders == 0 and not foreign then return { 'nobody' } end
    return { 'moved', views() }
  end
  for i = 1, #members do
    end_member(members[i], t[3] == 1 and 'stolen' or 'evicted', t[4], t[5])
  end
  fence = next_fence()
  serve()
  return { 'evicted', victims }
end

-- { 'inspect' }: replies { fence, holders, waiters, value or false, now }.
function verbs.inspect()
  local waiters = {}
  for i = 1, #queue do
    local w = queue[i]
    waiters[i] = { w[MEMBER], w[TAKE], w[OF], w[PRIORITY], w[ARRIVAL], w[UPGRADES],
      w[DETAILS] }
  end
  return { 'view', fence, views(), waiters, live_value() and value_of() or {}, now }
end
