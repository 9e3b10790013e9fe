-- The queue, in pages, so that a turn costs the same whether ten wait or a thousand. The first page is
-- always there; of the others the cell keeps, in `i`, what has to be known of them to leave them alone.

local PAGE = 32
-- How much of an id pages are searched by.
local PAGE_ID = 16

-- Pages in their order, how many wait in all of them, and what the next page is called. Of a page: its
-- name, waiters, the first end of a place, the last sign of life, whether anybody upgrades or would rather
-- have a value, how many seats they count, its bytes, the beginnings of the ids; then, of the turn, the
-- waiters if they were looked at, and whether they have changed.
local pages, total, next_page
local NAME, COUNT, FIRST_END, LAST_SIGN, UPGRADING, VALUES, COUNTED, BYTES, IDS, LIST, DIRTY =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
local changed_queue, changed_pages, names_gone

local function waiters_of(p)
  if not p[LIST] then p[LIST] = decoded(call('HGET', cell, 'q' .. p[NAME])) end
  return p[LIST]
end

local function count_of(p) return p[LIST] and #p[LIST] or p[COUNT] end

local function touch(p) p[DIRTY], changed_queue = true, true end

-- Takes the queue up.
local function open_queue(first, index)
  local head = decoded(first)
  local rest = decoded(index)
  next_page, names_gone = rest[1] or 1, {}
  pages, total, changed_queue, changed_pages = rest[2] or {}, #head, false, false
  for n = 1, #pages do total = total + pages[n][COUNT] end
  table.insert(pages, 1, { false, [BYTES] = first and #first or 0, [LIST] = head })
end

-- Takes a page out that is empty and not the only one.
local function drop_page(n)
  local p = table.remove(pages, n)
  changed_pages = true
  if p[NAME] then names_gone[#names_gone + 1] = 'q' .. p[NAME] end
  local head = pages[1]
  if head[NAME] then
    waiters_of(head)
    names_gone[#names_gone + 1] = 'q' .. head[NAME]
    head[NAME] = false
    touch(head)
  end
end

-- Takes the `i`th waiter of the `n`th page out; answers whether the page went with it.
local function take_out(n, i)
  local p = pages[n]
  table.remove(p[LIST], i)
  total = total - 1
  touch(p)
  if #p[LIST] == 0 and #pages > 1 then
    drop_page(n)
    return true
  end
end

-- What `each` is to do with a waiter, or with all that are left.
local OUT, STOP = 1, 2

-- Looks at the waiters in their order, without those pages that `spare` says can be left alone.
local function each(look, spare)
  local n = 1
  while n <= #pages do
    local p, i = pages[n], 1
    if not p[LIST] and spare and spare(p) then i = math.huge end
    while i ~= math.huge do
      local w = waiters_of(p)[i]
      if not w then break end
      local said = look(w, p)
      if said == STOP then return end
      if said ~= OUT then
        i = i + 1
      elseif take_out(n, i) then
        n = n - 1
        break
      end
    end
    n = n + 1
  end
end

-- A waiter of this member, with this claim if one is given, and where it is.
local function find_waiter(member, claim)
  if total == 0 then return end
  local id = sub(member, 1, PAGE_ID)
  for n = 1, #pages do
    local p = pages[n]
    if p[LIST] or string.find(p[IDS], id, 1, true) then
      local list = waiters_of(p)
      for i = 1, #list do
        local w = list[i]
        if w[MEMBER] == member and (not claim or w[CLAIM] == claim) then return w, n, i end
      end
    end
  end
end

-- Takes all waiters of this member out, but the one with this claim.
local function strike(member, but)
  local w, n, i = find_waiter(member)
  if w and w[CLAIM] ~= but then
    take_out(n, i)
    return strike(member, but)
  end
end

-- Puts a waiter in its place, and answers where that is.
local function insert(w)
  local n, at = #pages, nil
  while true do
    local list = waiters_of(pages[n])
    at = #list + 1
    while at > 1 do
      local b = list[at - 1]
      if b[UPGRADES] > w[UPGRADES] or b[UPGRADES] == w[UPGRADES]
        and (b[ORDER] < w[ORDER] or b[ORDER] == w[ORDER] and b[ARRIVAL] <= w[ARRIVAL]) then
        break
      end
      at = at - 1
    end
    if at > 1 or n == 1 then break end
    n = n - 1
  end
  local p = pages[n]
  local list = p[LIST]
  total = total + 1
  if #list >= PAGE then
    -- Those who come last begin a page of their own, and leave this one as it is.
    local new = { next_page, [BYTES] = 0, [LIST] = {} }
    table.insert(pages, n + 1, new)
    next_page, changed_pages = next_page + 1, true
    local size = #list
    local half = at > size and size or math.floor(size / 2)
    for i = half + 1, size do
      new[LIST][i - half], list[i] = list[i], nil
      touch(p)
    end
    touch(new)
    if at > half + 1 or half == size then n, at, p = n + 1, at - half, new end
  end
  table.insert(p[LIST], at, w)
  touch(p)
  return n, at
end

-- How many are before a waiter; all of them, if it does not wait.
local function ahead_of(member, claim)
  local w, n, i = find_waiter(member, claim)
  if not w then return total end
  for before = 1, n - 1 do i = i + count_of(pages[before]) end
  return i - 1
end

local function bytes_of_queue()
  local bytes = 0
  for n = 1, #pages do bytes = bytes + pages[n][BYTES] end
  return bytes
end

-- What has to be known of a page.
local function sum_up(p)
  local list, ids = p[LIST], {}
  local first, sign, upgrading, values, counted = math.huge, 0, 0, 0, 0
  for i = 1, #list do
    local w = list[i]
    if w[UPGRADES] == 0 then first = math.min(first, w[UNTIL]) end
    sign = math.max(sign, w[UNTIL] - w[WAIT_TTL])
    upgrading, values = math.max(upgrading, w[UPGRADES]), math.max(values, w[OR_VALUE])
    if w[OF] ~= 0 then counted = w[OF] end
    ids[i] = sub(w[MEMBER], 1, PAGE_ID)
  end
  -- What never ends is as good as what ends in the far future.
  first = math.min(first, 2 ^ 52)
  return { p[NAME], #list, first, sign, upgrading, values, counted, p[BYTES], table.concat(ids, ' ') }
end

-- Stores what has changed of the queue.
local function store_queue(put)
  local index = {}
  for n = 1, #pages do
    local p = pages[n]
    if p[DIRTY] then
      local bytes = #p[LIST] > 0 and pack(p[LIST]) or ''
      p[BYTES] = #bytes
      put(p[NAME] and 'q' .. p[NAME] or 'q', bytes)
      changed_pages = changed_pages or p[NAME]
    end
  end
  if changed_pages then
    for n = 2, #pages do index[n - 1] = pages[n][DIRTY] and sum_up(pages[n]) or pages[n] end
    for n = 1, #index do
      index[n][LIST], index[n][DIRTY] = nil, nil
    end
    put('i', #index > 0 and pack({ next_page, index }) or '')
    if #names_gone > 0 then call('HDEL', cell, spread(names_gone)) end
  end
end
