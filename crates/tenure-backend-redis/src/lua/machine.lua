-- What a turn may do to a lock.

local function until_of(h) return h[RENEWED] + h[TERM] end

-- What the lock's own key has to say, by the cell.
local function key_says()
  local first = holders[1]
  if not first then return false end
  if first[OF] == 0 then return first[MEMBER] end
  return SHARED
end

local function find(list, field, id)
  for i = 1, #list do
    if list[i][field] == id then return list[i], i end
  end
end

-- The server's refusal to tell anybody. It comes in the midst of a turn, which goes on as if nobody
-- had heard: half a turn must not be stored.
local denied

local function tell(channel, message)
  if channel == '' then return 0 end
  local heard = redis.pcall('PUBLISH', channel, message)
  if type(heard) == 'number' then return heard end
  denied = heard
  return 0
end

-- A grant as replies have it.
local function grant_of(h)
  return { h[FENCE], h[TAKE], h[OF], h[RENEWED], h[TERM], h[HANDED], now }
end

local function view_of(h)
  return { h[MEMBER], h[TAKE], h[OF], h[FENCE], h[SINCE], h[RENEWED], until_of(h), h[TTL],
    h[DETACHED], h[DETAILS] }
end

local function views()
  local all = {}
  for i = 1, #holders do all[i] = view_of(holders[i]) end
  if foreign then
    local left = foreign < 0 and 0 or foreign * 1000
    all[#all + 1] = { '', 0, 0, 0, 0, now, left == 0 and 0 or now + left, left, 0, '' }
  end
  return all
end

local function value_bytes() return new_value or call('HGET', cell, 'b') or '' end

local function value_of()
  return { value_bytes(), value[1], value[2], value[3] }
end

local function live_value() return value and now < value[3] end

local function fits(take, of, member)
  if foreign then return false end
  local taken = 0
  for i = 1, #holders do
    local h = holders[i]
    if h[MEMBER] ~= member then
      if of == 0 or h[OF] == 0 then return false end
      taken = taken + h[TAKE]
    end
  end
  return of == 0 or #holders < MAX_MEMBERS and taken + take <= of
end

local function depart(member, how, by, why)
  local _, at = find(holders, MEMBER, member)
  if at then
    table.remove(holders, at)
    changed_holders = true
  end
  strike(member)
  if how == 'released' then
    count = (count + 1) % MAX_RELEASED
    new_released[count] = sub(member, 1, RELEASED_ID) .. write('<d', now + REMEMBER)
  else
    others[#others + 1] = { member, how, now + REMEMBER, by or '', why or '' }
    changed_rest = true
  end
end

-- Ends a member that did not ask for it, so that it is told.
local function end_member(member, how, by, why)
  local gone = find(holders, MEMBER, member)
  if gone then
    tell(gone[CHANNEL], cjson.encode({ key = key, gone = member, how = how, by = by or '', why = why or '' }))
  end
  depart(member, how, by, why)
end

-- Whether a release of this member is remembered.
local function has_released(member)
  if not released then
    local names = {}
    for i = 1, MAX_RELEASED do names[i] = 'r' .. i - 1 end
    released = call('HMGET', cell, spread(names))
  end
  local id = sub(member, 1, RELEASED_ID)
  for i = 1, MAX_RELEASED do
    local r = new_released[i - 1] or released[i]
    if r and sub(r, 1, RELEASED_ID) == id then return now < read('<d', r, RELEASED_ID + 1) end
  end
end

local function departure(member)
  if has_released(member) then return { 'released', '', '' } end
  for i = #others, 1, -1 do
    local o = others[i]
    if o[1] == member and now < o[3] then return { o[2], o[4], o[5] } end
  end
  return { 'forgotten', '', '' }
end

local function next_fence() return math.max(fence + 1, now) end

local function raise_to_all(h, claim)
  fence = next_fence()
  h[UPGRADE] = { h[TAKE], h[OF], { claim } }
  h[TAKE], h[OF], h[FENCE], h[HANDED] = 0, 0, fence, 0
  changed_holders = true
end

-- Seats whoever a claim or a waiter `c` stands for.
local function seat(c, term, handed)
  fence = next_fence()
  local h = { c[MEMBER], '', fence, now, now, term, handed, false, c[CLAIM], c[TAKE], c[OF], c[TTL],
    c[DETACHED], c[DETAILS], c[CHANNEL] }
  holders[#holders + 1] = h
  changed_holders = true
  return h
end

-- A grant as messages have it: numbers as text, which JSON here would round.
local function granted(h)
  return cjson.encode({ key = key, granted = h[MEMBER], take = h[TAKE], of = h[OF], fence = digits(h[FENCE]),
    at = digits(h[RENEWED]), term = digits(h[TERM]) })
end

-- Takes everybody out of the queue who would rather have the value.
local function answer_with_value()
  each(function(w)
    if w[OR_VALUE] == 1 then
      tell(w[CHANNEL], cjson.encode({ key = key, look = w[MEMBER] }))
      others[#others + 1] = { w[MEMBER], 'answered', now + REMEMBER, '', '' }
      changed_rest = true
      return OUT
    end
  end, function(p) return p[VALUES] == 0 end)
end

-- Whether a waiter that hears nothing is gone: it was there since this connection is.
local function is_gone(w)
  return GRACE <= age or now - age < w[UNTIL] - w[WAIT_TTL]
end

-- Makes the first of those who wait behind somebody look who hears it, unless it asks anyhow.
local function let_look(behind)
  local is_behind = false
  each(function(w)
    if is_behind and (w[MEMBER] == asking
      or tell(w[CHANNEL], cjson.encode({ key = key, look = w[MEMBER] })) > 0) then
      return STOP
    end
    is_behind = is_behind or w == behind
  end)
end

-- Lets somebody behind know of a hand-over, who is to look whether the lock was picked up. Not those of
-- the same process: it may be dead.
local function let_look_later(to)
  local left = MAX_ASIDE
  each(function(w)
    left = left - 1
    if left < 0 or w[MEMBER] == asking or w[CHANNEL] ~= to[CHANNEL] and tell(w[CHANNEL],
      cjson.encode({ key = key, later = w[MEMBER], term = digits(to[TERM]) })) > 0 then
      return STOP
    end
  end)
end

-- Hands free seats to the waiters in their order, up to the first that does not fit.
local function serve()
  if total == 0 then return end
  if #holders == 0 and not foreign and live_value() then answer_with_value() end
  local n, i, last_served = 1, 1, nil
  while pages[n] do
    local w = waiters_of(pages[n])[i]
    local before = fence
    if not w then
      n, i = n + 1, 1
    elseif not fits(w[TAKE], w[OF], w[MEMBER]) then
      break
    elseif w[UPGRADES] == 1 then
      take_out(n, i)
      local h = find(holders, MEMBER, w[MEMBER])
      raise_to_all(h, w[CLAIM])
      if w[MEMBER] ~= caller then tell(w[CHANNEL], granted(h)) end
    else
      local h = seat(w, w[PICK_UP], 1)
      if w[MEMBER] == caller or tell(w[CHANNEL], granted(h)) > 0 or w[CHANNEL] == ''
        or not age then
        take_out(n, i)
        last_served = h
      else
        -- Nobody hears it: its process is gone, or about to come back and ask. It keeps its place,
        -- and those behind it do not wait for one that is gone.
        table.remove(holders)
        fence = before
        if not is_gone(w) then
          kept = true
          return let_look(w)
        end
        i = i + 1
      end
    end
  end
  if last_served then let_look_later(last_served) end
end

local function refresh_place(member)
  local w, n = find_waiter(member)
  if w then
    w[UNTIL] = now + w[WAIT_TTL]
    touch(pages[n])
  end
end

local function bury(claim, keep)
  for i = #withdrawn, 1, -1 do
    if withdrawn[i][1] == claim then table.remove(withdrawn, i) end
  end
  withdrawn[#withdrawn + 1] = { claim, now + keep }
  changed_rest = true
end

local function write_value(bytes, keep, by)
  value = { by, now, now + keep }
  new_value = bytes
  changed_rest = true
end

-- How many seats live members count, if it is another number than `of`.
local function other_limit(of, except)
  if of == 0 then return end
  for i = 1, #holders do
    local h = holders[i]
    local counts = h[UPGRADE] and h[UPGRADE][2] or h[OF]
    if counts ~= 0 and counts ~= of and h[MEMBER] ~= except then return counts end
  end
  local other
  each(function(w)
    if w[OF] ~= 0 and w[OF] ~= of and w[MEMBER] ~= except then
      other = w[OF]
      return STOP
    end
  end, function(p) return p[COUNTED] == 0 or p[COUNTED] == of end)
  return other
end

-- Where a claim stands that is not granted.
local function place(member, claim)
  local ahead = ahead_of(member, claim)
  local check_in = -1
  for i = 1, #holders do
    local left = until_of(holders[i]) - now
    if check_in < 0 or left < check_in then check_in = left end
  end
  if foreign then
    if foreign >= 0 then check_in = foreign * 1000 end
    -- Another program tells nobody when it gives its lock back: the first in the queue looks.
    if ahead == 0 and (check_in < 0 or check_in > LOOK) then check_in = LOOK end
  end
  if kept and (check_in < 0 or check_in > GRACE - age) then check_in = GRACE - age end
  return { ahead, check_in, now, views() }
end

-- The id of the first claim of a member.
local function first_claim(member) return sub(member, 1, 32) end

-- The holder that `p` tells of.
local function plain_holder(p, origin)
  local member, from = sub(p, HOLDER), unpack(origin)
  local ends, began, ttl, detached = read('<dddB', p, ENDS)
  return { member, '', fence, began, ends - ttl, ttl, 0, false, first_claim(member), 0, 0, ttl, detached,
    from[1], from[2] }
end

-- Whether `p` can tell of a holder.
local function is_plain_holder(h)
  return h[OF] == 0 and not h[UPGRADE] and h[HANDED] == 0 and h[TERM] == h[TTL]
    and h[FENCE] == fence and h[CLAIM] == first_claim(h[MEMBER])
end

local function plain(h)
  local p = write('<Bdd', count, expires, fence)
  return h and p .. write('<dddB', until_of(h), h[SINCE], h[TTL], h[DETACHED]) .. h[MEMBER] or p
end

-- Takes a lock up, ends what is over in it, and hands on what that frees.
local function begin(k, c)
  key, cell, denied = k, c, nil
  local f = call('HMGET', c, 'p', 'h', 'q', 's', 'i', 'f', 'x', 'n', 'd')
  key_was = call('GET', k)
  local p = f[1]
  was_plain = p and #p == HELD or false
  if p and p ~= '' then
    count, expires, fence = read('<Bdd', p)
  else
    count, expires, fence = tonumber(f[8] or 0), tonumber(f[7] or 0), tonumber(f[6] or 0)
  end
  holders = was_plain and { plain_holder(p, f[9]) } or decoded(f[2])
  open_queue(f[3], f[5])
  local rest = decoded(f[4])
  others, withdrawn, value, last = rest[1] or {}, rest[2] or {}, rest[3] or nil, rest[4] or 0
  released, new_released = nil, {}
  foreign, caller, new_value, kept = nil, nil, nil, nil
  changed_holders, changed_rest = false, false
  -- Bytes are saved: a member's first claim is named after it.
  for i = 1, #holders do
    local h = holders[i]
    if h[CLAIM] == '' then h[CLAIM] = first_claim(h[MEMBER]) end
  end

  local is_ours = key_was == key_says()
  for i = #holders, 1, -1 do
    -- The clock was set back: nobody may hold for longer than a term from now on.
    if now < holders[i][RENEWED] then holders[i][RENEWED], changed_holders = now, true end
    if until_of(holders[i]) <= now then end_member(holders[i][MEMBER], 'expired') end
  end
  if not is_ours then
    -- Somebody deleted the key, or took it after it was gone.
    for i = #holders, 1, -1 do
      end_member(holders[i][MEMBER], 'evicted', 'another program', 'the key of the lock was deleted')
    end
    if key_was then foreign = call('PTTL', k) end
  end
  if total > 0 then
    each(function(w, p)
      if now + w[WAIT_TTL] < w[UNTIL] then
        w[UNTIL] = now + w[WAIT_TTL]
        touch(p)
      end
      if w[UPGRADES] == 0 and w[UNTIL] <= now then return OUT end
    end, function(p) return now < p[FIRST_END] and p[LAST_SIGN] <= now end)
  end
  serve()
end

local function forget_what_is_old()
  while others[1] and (others[1][3] <= now or #others > MAX_DEPARTED) do
    table.remove(others, 1)
    changed_rest = true
  end
  for i = #withdrawn, 1, -1 do
    if withdrawn[i][2] <= now or i <= #withdrawn - MAX_TOMBSTONES then
      table.remove(withdrawn, i)
      changed_rest = true
    end
  end
  if value and value[3] <= now then
    value, changed_rest = nil, true
  end
end

-- Stores what has changed.
local function finish()
  if not (changed_holders or changed_queue or changed_rest or next(new_released)) then return end
  forget_what_is_old()
  local lives, fields, n = now + DAY, {}, 0
  local function put(name, bytes)
    fields[n + 1], fields[n + 2], n = name, bytes, n + 2
  end
  if changed_holders then
    local ends = 0
    for i = 1, #holders do
      ends = math.max(ends, until_of(holders[i]))
    end
    lives = math.max(lives, ends + DAY)
    -- Not before the lease: the cell says when that ends. Once only, and never after it was deleted:
    -- on a cluster, a key that is not there may not be touched while its slot moves.
    if #holders > 0 then
      call('SET', key, key_says(), 'PXAT', digits(math.ceil(ends / 1000)))
    elseif key_was and not foreign then
      call('DEL', key)
    end
  end
  if changed_queue then
    store_queue(put)
    changed_rest = true
  end
  for i, r in pairs(new_released) do put('r' .. i, r) end
  local nothing = #others == 0 and #withdrawn == 0 and not value and total == 0
  if changed_rest then
    put('s', nothing and '' or pack({ others, withdrawn, value or false, last }))
    if value then
      lives = math.max(lives, value[3] + DAY)
      if new_value then put('b', new_value) end
    else
      call('HDEL', cell, 'b')
    end
  end
  local prolonged = expires < lives
  -- By a day more than it has to, so that it is seldom asked for.
  if prolonged then expires = lives + DAY end
  local first = holders[1]
  local is_plain = nothing and first and is_plain_holder(first) or false
  if changed_holders or was_plain ~= is_plain then
    for i = 1, #holders do
      local h = holders[i]
      if h[CLAIM] == first_claim(h[MEMBER]) then h[CLAIM] = '' end
    end
    put('h', first and not is_plain and pack(holders) or '')
  end
  if was_plain and not is_plain then put('d', '') end
  if nothing and not first then
    put('p', plain())
  elseif is_plain then
    put('p', plain(first))
    put('d', pack({ first[DETAILS], first[CHANNEL] }))
  else
    put('p', '')
    put('f', digits(fence))
    put('x', digits(expires))
    put('n', count)
  end
  call('HSET', cell, spread(fields))
  if prolonged then call('PEXPIREAT', cell, digits(math.ceil(expires / 1000))) end
end
