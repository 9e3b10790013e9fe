-- What can be asked of a lock, each a step of a turn. The answer is left in the turn.

-- Seats a claim that asks itself: a full ttl from the start.
CREATE OR REPLACE FUNCTION seat_claim(t turn, c claim) RETURNS turn LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  t.fence := next_fence(t.fence, t.now);
  t.holders := t.holders || ROW(c.member, c.claim, c.take, c.out_of, t.fence, t.now, t.now, c.ttl,
    false, NULL, NULL, NULL, c.ttl, c.detached, c.details, c.channel)::holder;
  t.changed := true;
  RETURN t;
END $$;

-- Whether members say so much about themselves that every turn would be slow: more than 2 MiB.
CREATE OR REPLACE FUNCTION is_too_large(members anyarray) RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$ SELECT cardinality(members) > 64 AND pg_column_size(members) > 2097152 $$;

-- Puts a claim in its place in the queue, and serves that: a head start may put it first, and what
-- the one behind it could not take may suit it.
CREATE OR REPLACE FUNCTION enqueue(t turn, c claim) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  queue waiter[] := t.queue;
  at integer := cardinality(t.queue);
  mine waiter;
  w waiter;
  h holder;
BEGIN
  IF at >= 4096 THEN
    t.answer := json_build_array('busy', place_of(t, c.claim));
    RETURN t;
  END IF;
  IF is_too_large(queue) THEN
    t.answer := json_build_array('too_large');
    RETURN t;
  END IF;
  mine := ROW(c.member, c.claim, CASE WHEN c.upgrade THEN 0 ELSE c.take END,
    CASE WHEN c.upgrade THEN 0 ELSE c.out_of END, c.upgrade, c.or_value, c.priority,
    greatest(t.now, t.last_arrival + 1), t.now + c.wait_ttl, c.wait_ttl, c.ttl, c.pick_up, c.detached,
    c.details, c.channel);
  -- Upgrades first, then by arrival less the head start of 30 s a point.
  WHILE at > 0 LOOP
    w := queue[at];
    EXIT WHEN (NOT w.upgrade, w.arrival - w.priority * 30000000::bigint, w.arrival)
      <= (NOT mine.upgrade, mine.arrival - mine.priority * 30000000::bigint, mine.arrival);
    at := at - 1;
  END LOOP;
  t.queue := queue[:at] || mine || queue[at + 1:];
  t.last_arrival := mine.arrival;
  t.changed := true;
  t := serve(t);
  FOREACH w IN ARRAY t.queue LOOP
    IF w.claim = c.claim THEN
      t.answer := json_build_array('queued', place_of(t, c.claim));
      RETURN t;
    END IF;
  END LOOP;
  at := seat_of(t.holders, c.member);
  h := t.holders[at];
  h.term := h.ttl;
  h.handed_over := false;
  t.holders[at] := h;
  t.answer := json_build_array('granted', grant_of(h, t.now));
  RETURN t;
END $$;

-- All seats for a holder of some.
CREATE OR REPLACE FUNCTION on_upgrade(t turn, c claim, at integer) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  h holder := t.holders[at];
  w waiter;
  waits boolean := false;
BEGIN
  FOREACH w IN ARRAY t.queue LOOP
    IF w.upgrade AND w.member <> c.member THEN
      t.answer := json_build_array('upgrade_pending');
      RETURN t;
    END IF;
    waits := waits OR w.claim = c.claim;
  END LOOP;
  IF h.upgrades IS NOT NULL THEN
    IF c.claim <> ALL (h.upgrades) THEN
      h.upgrades := h.upgrades || c.claim;
      t.holders[at] := h;
      t.changed := true;
    END IF;
    t.answer := json_build_array('granted', grant_of(h, t.now));
    RETURN t;
  END IF;
  -- An earlier upgrade of the same holder was given up, or nobody would ask anew.
  at := cardinality(t.queue);
  t.queue := queue_without(t.queue, c.member, NULL, c.claim);
  t.changed := t.changed OR cardinality(t.queue) < at;
  IF fits(t.holders, 0, 0, c.member) THEN
    t.queue := queue_without(t.queue, NULL, c.claim, NULL);
    h := raised(t, h, c.claim);
    t.holders[seat_of(t.holders, c.member)] := h;
    t.fence := h.fence;
    t.changed := true;
    t.answer := json_build_array('granted', grant_of(h, t.now));
    RETURN t;
  END IF;
  IF waits THEN
    t := refresh_place(t, c.member);
    t.answer := json_build_array('queued', place_of(t, c.claim));
    RETURN t;
  END IF;
  IF NOT c.wait THEN
    -- An upgrade that was given up stood before others, and they may have been waiting for it.
    t := serve(t);
    t.answer := json_build_array('busy', place_of(t, c.claim));
    RETURN t;
  END IF;
  RETURN enqueue(t, c);
END $$;

-- Asks for seats. Answers ["granted", grant], ["queued", place], ["busy", place],
-- ["value", value], ["withdrawn"], ["departed", how], ["mismatch", of], ["upgrade_pending"],
-- ["not_held"] or ["too_large"]. The same claim asked again gets the same grant.
CREATE OR REPLACE FUNCTION on_claim(t turn, c claim) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  at integer := seat_of(t.holders, c.member);
  how json;
  other bigint;
  w waiter;
  h holder;
  queue waiter[];
BEGIN
  IF EXISTS (SELECT FROM unnest(t.withdrawn) AS b WHERE b.claim = c.claim AND t.now < b.until) THEN
    t.answer := json_build_array('withdrawn');
    RETURN t;
  END IF;
  IF at IS NOT NULL THEN
    IF NOT c.upgrade THEN
      t.answer := json_build_array('granted', grant_of(t.holders[at], t.now));
      RETURN t;
    END IF;
    RETURN on_upgrade(t, c, at);
  END IF;
  how := departure(t, c.member);
  IF how ->> 0 = 'answered' THEN
    IF has_value(t) THEN
      t.answer := json_build_array('value', value_of(t));
      RETURN t;
    END IF;
    -- The value that answered it is gone: it asks anew.
    t.others := array(SELECT ROW(o.member, o.how, o.by_whom, o.why, o.until)::departed
      FROM unnest(t.others) AS o WHERE o.member <> c.member);
    t.changed := true;
  ELSIF how ->> 0 <> 'forgotten' THEN
    t.answer := json_build_array('departed', how);
    RETURN t;
  END IF;
  IF c.upgrade THEN
    t.answer := json_build_array('not_held');
    RETURN t;
  END IF;
  other := other_limit(t, c.out_of, c.member);
  IF other IS NOT NULL THEN
    t.answer := json_build_array('mismatch', other);
    RETURN t;
  END IF;
  at := 0;
  FOREACH w IN ARRAY t.queue LOOP
    at := at + 1;
    IF w.claim = c.claim THEN
      t := refresh_place(t, c.member);
      -- Its process may listen elsewhere now.
      queue := t.queue;
      queue[at].channel := c.channel;
      t.queue := queue;
      t.changed := true;
      t.answer := json_build_array('queued', place_of(t, c.claim));
      RETURN t;
    END IF;
  END LOOP;
  IF c.or_value AND cardinality(t.holders) = 0 AND has_value(t) THEN
    t.answer := json_build_array('value', value_of(t));
    RETURN t;
  END IF;
  IF c.force <> '' THEN
    -- Whoever is in the way goes, oldest grant first.
    WHILE NOT fits(t.holders, c.take, c.out_of, NULL) AND cardinality(t.holders) > 0 LOOP
      t := end_holder(t, t.holders[1], 'stolen', c.by_whom, c.force);
    END LOOP;
  END IF;
  IF (c.force <> '' OR cardinality(t.queue) = 0) AND fits(t.holders, c.take, c.out_of, c.member) THEN
    IF is_too_large(t.holders) THEN
      t.answer := json_build_array('too_large');
      RETURN t;
    END IF;
    t := seat_claim(t, c);
    h := t.holders[cardinality(t.holders)];
    -- A forced share may have cleared seats that those who wait can have, too.
    t := serve(t);
    t.answer := json_build_array('granted', grant_of(h, t.now));
    RETURN t;
  END IF;
  IF NOT c.wait THEN
    t.answer := json_build_array('busy', place_of(t, c.claim));
    RETURN t;
  END IF;
  RETURN enqueue(t, c);
END $$;

-- Gives back whatever the claim has, and remembers for `keep` that it must never be granted. Answers
-- ["done"].
CREATE OR REPLACE FUNCTION on_withdraw(t turn, who bytea, id text, keep bigint) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  at integer;
  h holder;
BEGIN
  t := bury(t, id, keep);
  t.queue := queue_without(t.queue, NULL, id, NULL);
  at := seat_of(t.holders, who);
  h := t.holders[at];
  IF h.claim = id THEN
    t := depart(t, who, 'withdrawn', '', '');
  ELSIF h.upgrades IS NOT NULL THEN
    h.upgrades := array_remove(h.upgrades, id);
    IF cardinality(h.upgrades) = 0 THEN
      h.upgrades := NULL;
      h.take := h.take_before;
      h.out_of := h.out_of_before;
    END IF;
    t.holders[at] := h;
  END IF;
  t := serve(t);
  t.answer := json_build_array('done');
  RETURN t;
END $$;

-- A sign of life; with `change` also a new ttl. Never makes a lease anew. Answers
-- ["holding", grant], ["waiting"] or ["gone", how].
CREATE OR REPLACE FUNCTION on_renew(t turn, who bytea, change boolean, ttl bigint, detached boolean) RETURNS turn
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  at integer := seat_of(t.holders, who);
  h holder;
BEGIN
  IF at IS NOT NULL THEN
    h := t.holders[at];
    IF change THEN
      h.ttl := ttl;
      h.detached := detached;
    END IF;
    -- Never earlier than was promised before.
    h.term := greatest(h.ttl, h.renewed + h.term - t.now);
    h.renewed := t.now;
    h.handed_over := false;
    t.holders[at] := h;
    t.changed := true;
    t := refresh_place(t, who);
    t.answer := json_build_array('holding', grant_of(h, t.now));
    RETURN t;
  END IF;
  IF EXISTS (SELECT FROM unnest(t.queue) AS w WHERE w.member = who) THEN
    t := refresh_place(t, who);
    t.answer := json_build_array('waiting');
    RETURN t;
  END IF;
  t.answer := json_build_array('gone', departure(t, who));
  RETURN t;
END $$;

-- Some of the seats that were granted under this fence; the fence stays. Answers ["done", grant],
-- ["not_held", how], ["mismatch", of] or ["needs_all"].
CREATE OR REPLACE FUNCTION on_downgrade(t turn, who bytea, under bigint, take bigint, out_of bigint) RETURNS turn
LANGUAGE plpgsql AS $$
DECLARE
  at integer := seat_of(t.holders, who);
  h holder := t.holders[at];
  other bigint;
  id text;
  claims text[];
BEGIN
  IF at IS NULL OR h.fence <> under THEN
    t.answer := json_build_array('not_held', departure(t, who));
    RETURN t;
  END IF;
  other := other_limit(t, out_of, who);
  IF other IS NOT NULL THEN
    t.answer := json_build_array('mismatch', other);
    RETURN t;
  END IF;
  IF h.take <> take OR h.out_of <> out_of THEN
    IF h.out_of <> 0 THEN
      t.answer := json_build_array('needs_all');
      RETURN t;
    END IF;
    claims := coalesce(h.upgrades, '{}');
    h.take := take;
    h.out_of := out_of;
    h.upgrades := NULL;
    t.holders[at] := h;
    t.changed := true;
    FOREACH id IN ARRAY claims LOOP
      -- A copy of it that lands late must not be granted again.
      t := bury(t, id, greatest(h.ttl, 60000000));
    END LOOP;
  END IF;
  t := serve(t);
  t.answer := json_build_array('done', grant_of(h, t.now));
  RETURN t;
END $$;

-- Gives the seats back, with a value if one is given, and hands over. Answers ["released"],
-- ["not_held", how] or ["needs_all"].
CREATE OR REPLACE FUNCTION on_release(t turn, who bytea, bytes bytea, keep bigint) RETURNS turn
LANGUAGE plpgsql AS $$
DECLARE
  at integer := seat_of(t.holders, who);
  h holder := t.holders[at];
  how json;
BEGIN
  IF at IS NULL THEN
    how := departure(t, who);
    t.answer := CASE WHEN how ->> 0 = 'released' THEN json_build_array('released')
      ELSE json_build_array('not_held', how) END;
    RETURN t;
  END IF;
  IF bytes IS NOT NULL THEN
    IF h.out_of <> 0 THEN
      t.answer := json_build_array('needs_all');
      RETURN t;
    END IF;
    t := write_value(t, bytes, keep, h.fence);
  END IF;
  t := depart(t, who, 'released', '', '');
  t := serve(t);
  t.answer := json_build_array('released');
  RETURN t;
END $$;

-- Writes the value; only a holder of all seats may. Answers ["done", grant], ["not_held", how] or
-- ["needs_all"].
CREATE OR REPLACE FUNCTION on_put(t turn, who bytea, bytes bytea, keep bigint) RETURNS turn
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  at integer := seat_of(t.holders, who);
  h holder := t.holders[at];
BEGIN
  IF at IS NULL THEN
    t.answer := json_build_array('not_held', departure(t, who));
  ELSIF h.out_of <> 0 THEN
    t.answer := json_build_array('needs_all');
  ELSE
    t := write_value(t, bytes, keep, h.fence);
    t.answer := json_build_array('done', grant_of(h, t.now));
  END IF;
  RETURN t;
END $$;

-- Ends the holder with this fence, or all of them if none is given, and raises the fence. Answers
-- ["evicted", views], ["nobody"] or ["moved", views].
CREATE OR REPLACE FUNCTION on_evict(t turn, only_if numeric, stolen boolean, by_whom text, why text) RETURNS turn
LANGUAGE plpgsql AS $$
DECLARE
  h holder;
  victims holder[] := '{}';
BEGIN
  FOREACH h IN ARRAY t.holders LOOP
    IF only_if IS NULL OR h.fence = only_if THEN
      victims := victims || h;
    END IF;
  END LOOP;
  IF cardinality(victims) = 0 THEN
    t.answer := CASE WHEN cardinality(t.holders) = 0 THEN json_build_array('nobody')
      ELSE json_build_array('moved', holder_views(t.holders)) END;
    RETURN t;
  END IF;
  FOREACH h IN ARRAY victims LOOP
    t := end_holder(t, h, CASE WHEN stolen THEN 'stolen' ELSE 'evicted' END, by_whom, why);
  END LOOP;
  t.fence := next_fence(t.fence, t.now);
  t.changed := true;
  t := serve(t);
  t.answer := json_build_array('evicted', holder_views(victims));
  RETURN t;
END $$;

-- Shows the lock: ["view", fence, views, waiters, value or null, now].
CREATE OR REPLACE FUNCTION show(t turn) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  w waiter;
  waiters json[] := '{}';
BEGIN
  FOREACH w IN ARRAY t.queue LOOP
    waiters := waiters || json_build_array(encode(w.member, 'hex'), w.take, w.out_of, w.priority,
      w.arrival, w.upgrade, w.details);
  END LOOP;
  RETURN json_build_array('view', t.fence, holder_views(t.holders), array_to_json(waiters),
    CASE WHEN has_value(t) THEN value_of(t) END, t.now);
END $$;
