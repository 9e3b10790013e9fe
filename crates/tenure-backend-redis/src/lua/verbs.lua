-- Everything else that is asked of a lock: of a member, and what else is needed as a MessagePack
-- array, if anything.

local verbs = {}

-- 'withdraw' { claim, keep }: gives back whatever the claim has, and remembers that it must
-- never be granted. Answers { 'done' }.
function verbs.withdraw(member, t)
  local claim = t[1]
  caller = member
  bury(claim, t[2])
  local w, n, i = find_waiter(member, claim)
  if w then take_out(n, i) end
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

local function renew(member, change)
  caller = member
  local h = find(holders, MEMBER, member)
  if h then
    local over = until_of(h)
    if change then h[TTL], h[DETACHED] = change[1], change[2] end
    -- Never earlier than was promised before.
    h[RENEWED], h[TERM], h[HANDED] = now, math.max(h[TTL], over - now), 0
    changed_holders = true
    refresh_place(member)
    return { 'holding', grant_of(h) }
  end
  if find_waiter(member) then
    refresh_place(member)
    return { 'waiting' }
  end
  return { 'gone', departure(member) }
end

-- 'renew' and what ttl it should have, which only the short way looks at: a sign of life. Never makes
-- a lease anew. Answers the fence, { 'holding', grant }, { 'waiting' } or { 'gone', how }.
function verbs.renew(member) return renew(member) end

-- 'change' { ttl, detached }: a sign of life, and a new ttl. Answers as 'renew'.
function verbs.change(member, t) return renew(member, t) end

-- 'downgrade' { fence, take, of }: some of the seats that were granted under this
-- fence. Answers { 'done', grant }, { 'not_held', how }, { 'mismatch', of } or { 'needs_all' }.
function verbs.downgrade(member, t)
  local take, of = t[2], t[3]
  local h = find(holders, MEMBER, member)
  if not h or digits(h[FENCE]) ~= t[1] then return { 'not_held', departure(member) } end
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

-- 'release' { bytes, keep } or nothing: gives the seats back, with a value if one is given, and hands
-- over. Answers 1 or { 'released' }, { 'not_held', how } or { 'needs_all' }.
function verbs.release(member, t)
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
  if t then
    if h[OF] ~= 0 then return { 'needs_all' } end
    write_value(t[1], t[2], h[FENCE])
  end
  depart(member, 'released')
  serve()
  return { 'released' }
end

-- 'put' { bytes, keep }: writes the value. Answers as `downgrade`.
function verbs.put(member, t)
  local h = find(holders, MEMBER, member)
  if not h then return { 'not_held', departure(member) } end
  if h[OF] ~= 0 then return { 'needs_all' } end
  write_value(t[1], t[2], h[FENCE])
  return { 'done', grant_of(h) }
end

-- 'evict' { only_if, stolen, by, why }, without a member: ends the holder with this fence, or all of them, whatever
-- program they are, and raises the fence. Answers { 'evicted', views }, { 'nobody' } or
-- { 'moved', views }.
function verbs.evict(_, t)
  local victims, members = {}, {}
  for i = 1, #holders do
    local h = holders[i]
    if t[1] == '' or digits(h[FENCE]) == t[1] then
      victims[#victims + 1], members[#members + 1] = view_of(h), h[MEMBER]
    end
  end
  if foreign and (t[1] == '' or t[1] == '0') then
    local all = views()
    victims[#victims + 1] = all[#all]
    foreign, changed_holders = nil, true
  end
  if #victims == 0 then
    if #holders == 0 and not foreign then return { 'nobody' } end
    return { 'moved', views() }
  end
  for i = 1, #members do
    end_member(members[i], t[2] == 1 and 'stolen' or 'evicted', t[3], t[4])
  end
  fence = next_fence()
  serve()
  return { 'evicted', victims }
end

-- 'inspect', without a member: answers { fence, holders, waiters, value or false, now }.
function verbs.inspect()
  local waiters = {}
  each(function(w)
    waiters[#waiters + 1] = { w[MEMBER], w[TAKE], w[OF], w[PRIORITY], w[ARRIVAL], w[UPGRADES],
      w[DETAILS] }
  end)
  return { 'view', fence, views(), waiters, live_value() and value_of() or {}, now }
end

local function turn(verb, member, what)
  return verbs[verb](member, what ~= '' and verb ~= 'renew' and unpack(what) or nil)
end
