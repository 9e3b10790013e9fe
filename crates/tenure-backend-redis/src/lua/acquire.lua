-- Asks for seats. The verb is the id of the claim, or 'plain'. The wishes begin with the ttl, a double, and
-- a byte that says whether it is detached; then come { wait, wait_ttl, pick_up, or_value, upgrade,
-- force, by, priority, take, of }. Where it comes from is { details, channel }. Answers
-- { 'granted', grant }, { 'queued', place }, { 'busy', place }, { 'value', value }, { 'withdrawn' },
-- { 'departed', how }, { 'mismatch', of }, { 'upgrade_pending' }, { 'not_held' } or { 'too_large' }.
-- The same claim sent again gets the same grant.

local function enqueue(c, a)
  local member, claim = c[MEMBER], c[CLAIM]
  if total >= MAX_MEMBERS then return { 'busy', place(member, claim) } end
  local arrival = math.max(now, last + 1)
  local order = arrival - a.priority * AGING
  local w = { member, arrival, now + a.wait_ttl, a.pick_up, order, a.wait_ttl, a.or_value, a.upgrade,
    claim, c[TAKE], c[OF], c[TTL], c[DETACHED], c[DETAILS], c[CHANNEL], a.priority }
  if a.upgrade == 1 then w[TAKE], w[OF] = 0, 0 end
  if total >= 64 and bytes_of_queue() + #pack(w) > MAX_PART then return { 'too_large' } end
  insert(w)
  last = arrival
  -- A head start may put it first, and what the one behind it could not take may suit it.
  serve()
  local h = find(holders, MEMBER, member)
  if h and not find_waiter(member, claim) then
    h[TERM], h[HANDED] = h[TTL], 0
    return { 'granted', grant_of(h) }
  end
  return { 'queued', place(member, claim) }
end

local function upgrade(h, c, a)
  local member, claim = c[MEMBER], c[CLAIM]
  local pending = false
  each(function(w)
    pending = w[UPGRADES] == 1 and w[MEMBER] ~= member
    if pending then return STOP end
  end, function(p) return p[UPGRADING] == 0 end)
  if pending then return { 'upgrade_pending' } end
  if h[UPGRADE] then
    local claims, known = h[UPGRADE][3], false
    for i = 1, #claims do known = known or claims[i] == claim end
    if not known then
      claims[#claims + 1] = claim
      changed_holders = true
    end
    return { 'granted', grant_of(h) }
  end
  -- An earlier upgrade of the same holder was given up, or nobody would ask anew.
  strike(member, claim)
  local waits, n, at = find_waiter(member, claim)
  if fits(0, 0, member) then
    if waits then take_out(n, at) end
    raise_to_all(h, claim)
    return { 'granted', grant_of(h) }
  end
  if waits then
    refresh_place(member)
    return { 'queued', place(member, claim) }
  end
  if a.wait == 0 then
    -- An upgrade that was given up stood before others, and they may have been waiting for it.
    serve()
    return { 'busy', place(member, claim) }
  end
  return enqueue(c, a)
end

-- Ends holders, oldest grant first, until the seats are free.
local function clear_the_way(take, of, by, why)
  while not fits(take, of, '') do
    if foreign then
      foreign, changed_holders = nil, true
    else
      end_member(holders[1][MEMBER], 'stolen', by, why)
    end
  end
end

local function turn(claim, member, what, origin)
  if claim == 'plain' then claim = first_claim(member) end
  local t, from = unpack(sub(what, 10)), unpack(origin)
  local a = { wait = t[1], wait_ttl = t[2], pick_up = t[3], or_value = t[4], upgrade = t[5],
    priority = t[8] }
  local take, of = t[9], t[10]
  local ttl, detached = read('<dB', what)
  local c = { member, [CLAIM] = claim, [TAKE] = take, [OF] = of, [TTL] = ttl, [DETACHED] = detached, [DETAILS] = from[1], [CHANNEL] = from[2] }
  caller = member
  local tombstone = find(withdrawn, 1, claim)
  if tombstone and now < tombstone[2] then return { 'withdrawn' } end
  local h = find(holders, MEMBER, member)
  if h then
    if a.upgrade == 0 then return { 'granted', grant_of(h) } end
    return upgrade(h, c, a)
  end
  local how = departure(member)
  if how[1] == 'answered' then
    if live_value() then return { 'value', value_of() } end
    local _, at = find(others, 1, member)
    table.remove(others, at)
    changed_rest = true
  elseif how[1] ~= 'forgotten' then
    return { 'departed', how }
  end
  if a.upgrade == 1 then return { 'not_held' } end
  local other = other_limit(of, member)
  if other then return { 'mismatch', other } end
  local w = find_waiter(member, claim)
  if w then
    -- It may be on another connection now.
    w[CHANNEL] = c[CHANNEL]
    refresh_place(member)
    -- What was free was not for somebody who hears nothing where it was before.
    serve()
    h = find(holders, MEMBER, member)
    if h then return { 'granted', grant_of(h) } end
    return { 'queued', place(member, claim) }
  end
  if a.or_value == 1 and #holders == 0 and not foreign and live_value() then
    return { 'value', value_of() }
  end
  local force = t[6] ~= ''
  if force then clear_the_way(take, of, t[7], t[6]) end
  if (force or total == 0) and fits(take, of, member) then
    local new = seat(c, c[TTL], 0)
    if #holders > 64 and #pack(holders) > MAX_PART then
      table.remove(holders)
      return { 'too_large' }
    end
    -- A forced share may have cleared seats that those who wait can have, too.
    serve()
    return { 'granted', grant_of(new) }
  end
  if a.wait == 0 then return { 'busy', place(member, claim) } end
  return enqueue(c, a)
end
