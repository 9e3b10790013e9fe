-- The lock's rules, the twin of tenure-core's machine: one turn over one lock, in one script.
--
-- KEYS come in pairs, one per turn: the lock's own key, which any program may take with
-- SET NX PX and which holds the public id of an exclusive holder or SHARED; and its cell, a hash
-- with everything else. ARGV[1] is '1' if nobody who hears nothing is to be granted anything;
-- ARGV[n + 1] is the n-th turn as a MessagePack array: a verb and what it needs. The reply is one
-- array per turn.
--
-- Time is the server's, in microseconds; so are all durations.

local spread = unpack
local unpack, pack, call = cmsgpack.unpack, cmsgpack.pack, redis.call

-- Fields of a holder. From CLAIM on they never change, and come from the client as they are stored.
local MEMBER, ENDS, FENCE, SINCE, RENEWED, TERM, HANDED, UPGRADE = 1, 2, 3, 4, 5, 6, 7, 8
local CLAIM, TAKE, OF, TTL, DETACHED, DETAILS, CHANNEL = 9, 10, 11, 12, 13, 14, 15
-- Fields of a waiter, beside MEMBER and those from CLAIM on.
local ARRIVAL, UNTIL, PICK_UP, ORDER, WAIT_TTL, OR_VALUE, UPGRADES, PRIORITY =
  2, 3, 4, 5, 6, 7, 8, 16

-- How the bytes of a single holder begin, with its id and its end at known places, and the claim's
-- part in an array of its own.
local ONE, ID, END, PART = '\145\159\217\064', '\217\064', '\176', '\151'
local SHARED = 'tenure:shared'
local REMEMBER = 600 * 1000000
local AGING = 30 * 1000000
local DAY = 86400 * 1000000
local MAX_MEMBERS, MAX_DEPARTED, MAX_RELEASED, MAX_TOMBSTONES = 4096, 48, 16, 1024
-- A release that is remembered: the first half of the member's id, and until when.
local RELEASED_ID, RELEASED_SIZE = 32, 48
-- The most bytes of holders or of waiters: what is longer would make every turn slow.
local MAX_PART = 2 * 1024 * 1024

local function digits(n) return string.format('%.0f', n) end

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]
local now_digits, now_packed = digits(now), pack(now)
local heard_only = ARGV[1] == '1'
-- How a release at this time is remembered, after the member's id.
local released_until = string.format('%016.0f', now + REMEMBER)

-- Of the turn under way.
local key, cell, fence, last, holders, queue, released, others, withdrawn, value, expires
local key_was, foreign, caller
local changed_holders, changed_queue, changed_released, changed_rest, new_value

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

local function tell(channel, message)
  if channel == '' then return 0 end
  return call('PUBLISH', channel, message)
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
  for i = #queue, 1, -1 do
    if queue[i][MEMBER] == member then
      table.remove(queue, i)
      changed_queue = true
    end
  end
  if how == 'released' then
    released = released .. string.sub(member, 1, RELEASED_ID) .. released_until
    changed_released = true
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
local function has_released(all, member)
  local at = string.find(all, string.sub(member, 1, RELEASED_ID), 1, true)
  return at and now < tonumber(string.sub(all, at + RELEASED_ID, at + RELEASED_SIZE - 1))
end

local function departure(member)
  if has_released(released, member) then return { 'released', '', '' } end
  for i = #others, 1, -1 do
    local o = others[i]
    if o[1] == member then return { o[2], o[4], o[5] } end
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
  for i = #queue, 1, -1 do
    local w = queue[i]
    if w[OR_VALUE] == 1 then
      tell(w[CHANNEL], cjson.encode({ key = key, look = w[MEMBER] }))
      table.remove(queue, i)
      others[#others + 1] = { w[MEMBER], 'answered', now + REMEMBER, '', '' }
      changed_queue, changed_rest = true, true
    end
  end
end

-- Hands free seats to the waiters in their order, up to the first that does not fit.
local function serve()
  if #queue == 0 then return end
  if #holders == 0 and not foreign and live_value() then answer_with_value() end
  local i = 1
  while i <= #queue do
    local w = queue[i]
    if not fits(w[TAKE], w[OF], w[MEMBER]) then return end
    local before = fence
    if w[UPGRADES] == 1 then
      table.remove(queue, i)
      local h = find(holders, MEMBER, w[MEMBER])
      raise_to_all(h, w[CLAIM])
      if w[MEMBER] ~= caller then tell(w[CHANNEL], granted(h)) end
      changed_queue = true
    else
      local h = seat(w, w[PICK_UP], 1)
      if w[MEMBER] == caller or tell(w[CHANNEL], granted(h)) > 0 or w[CHANNEL] == ''
        or not heard_only then
        table.remove(queue, i)
        changed_queue = true
      else
        -- Nobody hears it: its process is gone, or about to come back and ask. It keeps its place,
        -- and those behind it do not wait for that.
        table.remove(holders)
        fence = before
        i = i + 1
      end
    end
  end
end

local function refresh_place(member)
  for i = 1, #queue do
    local w = queue[i]
    if w[MEMBER] == member then
      w[UNTIL] = now + w[WAIT_TTL]
      changed_queue = true
    end
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
  for i = 1, #queue do
    local w = queue[i]
    if w[OF] ~= 0 and w[OF] ~= of and w[MEMBER] ~= except then return w[OF] end
  end
end

-- Where a claim stands that is not granted.
local function place(claim)
  local ahead = 0
  while ahead < #queue and queue[ahead + 1][CLAIM] ~= claim do ahead = ahead + 1 end
  local check_in = -1
  for i = 1, #holders do
    local left = until_of(holders[i]) - now
    if check_in < 0 or left < check_in then check_in = left end
  end
  if foreign and foreign >= 0 then check_in = foreign * 1000 end
  return { ahead, check_in, now, views() }
end

local function decoded(part) return part and part ~= '' and unpack(part) or {} end

-- What is known of a lock: fence, holders, waiters, releases, the rest, and when the cell expires.
local function load(c) return call('HMGET', c, 'f', 'h', 'q', 'r', 's', 'x') end

-- Takes a lock up, ends what is over in it, and hands on what that frees.
local function begin(k, c, f)
  key, cell = k, c
  key_was = call('GET', k)
  fence, holders, queue, released = tonumber(f[1] or 0), decoded(f[2]), decoded(f[3]), f[4] or ''
  local rest = decoded(f[5])
  others, withdrawn, value, last = rest[1] or {}, rest[2] or {}, rest[3] or nil, rest[4] or 0
  expires = tonumber(f[6] or 0)
  foreign, caller, new_value = nil, nil, nil
  changed_holders, changed_queue, changed_released, changed_rest = false, false, false, false

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
  for i = #queue, 1, -1 do
    local w = queue[i]
    if now + w[WAIT_TTL] < w[UNTIL] then w[UNTIL], changed_queue = now + w[WAIT_TTL], true end
    if w[UPGRADES] == 0 and w[UNTIL] <= now then
      table.remove(queue, i)
      changed_queue = true
    end
  end
  serve()
end

local function forget_what_is_old()
  if #released > MAX_RELEASED * RELEASED_SIZE then
    released = string.sub(released, -MAX_RELEASED * RELEASED_SIZE)
    changed_released = true
  end
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

-- Puts off the end of a cell that has to live so long, by a day more, so that it is seldom asked
-- for. Answers whether it did.
local function outlive(lives)
  if lives <= expires then return false end
  expires = lives + DAY
  call('PEXPIREAT', cell, digits(math.ceil(expires / 1000)))
  return true
end

-- Stores what has changed.
local function finish()
  if not (changed_holders or changed_queue or changed_released or changed_rest) then return end
  forget_what_is_old()
  local lives, fields, n = now + DAY, { 'f', digits(fence) }, 2
  local function put(name, bytes)
    fields[n + 1], fields[n + 2], n = name, bytes, n + 2
  end
  if changed_holders then
    local ends = 0
    for i = 1, #holders do
      local over = until_of(holders[i])
      holders[i][ENDS] = string.format('%016.0f', over)
      ends = math.max(ends, over)
    end
    lives = math.max(lives, ends + DAY)
    put('h', #holders > 0 and pack(holders) or '')
    -- Not before the lease: the cell says when that ends.
    if #holders > 0 then
      call('SET', key, key_says(), 'PXAT', digits(math.ceil(ends / 1000)))
    elseif key_was and not foreign then
      call('DEL', key)
    end
  end
  if changed_queue then
    put('q', #queue > 0 and pack(queue) or '')
    changed_rest = true
  end
  if changed_released then put('r', released) end
  if changed_rest then
    local nothing = #others == 0 and #withdrawn == 0 and not value and #queue == 0
    put('s', nothing and '' or pack({ others, withdrawn, value or false, last }))
    if value then
      lives = math.max(lives, value[3] + DAY)
      if new_value then put('b', new_value) end
    else
      call('HDEL', cell, 'b')
    end
  end
  call('HSET', cell, spread(fields))
  if outlive(lives) then call('HSET', cell, 'x', digits(expires)) end
end

-- By verb; those of `quick` are tried first, and answer nothing if it is not that simple.
local verbs, quick = {}, {}
