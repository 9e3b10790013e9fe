-- The lock's rules, the twin of `tenure_core::machine`: what follows from whatever is asked.
--
-- A turn goes from hand to hand: `take_up` reads a lock and ends what is over, one verb does what is
-- asked, `put_down` stores. Nothing here reads a clock but `clock_micros`.

-- The time. Read after the row is locked, so that times on one lock never run backwards by waiting.
CREATE OR REPLACE FUNCTION clock_micros() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE OR REPLACE FUNCTION next_fence(fence bigint, moment bigint) RETURNS bigint LANGUAGE sql IMMUTABLE
AS $$ SELECT greatest(fence + 1, moment) $$;

-- Under what a release is remembered: half of an id tells all apart, and is all that is kept.
CREATE OR REPLACE FUNCTION half(member bytea) RETURNS bytea LANGUAGE sql IMMUTABLE
AS $$ SELECT substring(member FROM 1 FOR 16) $$;

-- The place of a member among the holders; null if it holds nothing.
CREATE OR REPLACE FUNCTION seat_of(holders holder[], who bytea) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  h holder;
  at integer := 0;
BEGIN
  FOREACH h IN ARRAY holders LOOP
    at := at + 1;
    IF h.member = who THEN RETURN at; END IF;
  END LOOP;
  RETURN NULL;
END $$;

-- A grant as answers have it.
CREATE OR REPLACE FUNCTION grant_of(h holder, moment bigint) RETURNS json LANGUAGE sql IMMUTABLE AS $$
  SELECT json_build_array(h.fence, h.take, h.out_of, h.renewed, h.term, h.handed_over, moment)
$$;

CREATE OR REPLACE FUNCTION holder_views(holders holder[]) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  h holder;
  views json[] := '{}';
BEGIN
  FOREACH h IN ARRAY holders LOOP
    views := views || json_build_array(encode(h.member, 'hex'), h.take, h.out_of, h.fence, h.since,
      h.renewed, h.renewed + h.term, h.ttl, h.detached, h.details);
  END LOOP;
  RETURN array_to_json(views);
END $$;

-- Where a claim stands that is not granted: how many are ahead, when the first lease in the way
-- can end, and who holds.
CREATE OR REPLACE FUNCTION place_of(t turn, id text) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  w waiter;
  ahead integer := 0;
BEGIN
  FOREACH w IN ARRAY t.queue LOOP
    EXIT WHEN w.claim = id;
    ahead := ahead + 1;
  END LOOP;
  RETURN json_build_array(ahead,
    (SELECT greatest(min(h.renewed + h.term) - t.now, 0) FROM unnest(t.holders) AS h),
    t.now, holder_views(t.holders));
END $$;

CREATE OR REPLACE FUNCTION has_value(t turn) RETURNS boolean LANGUAGE sql IMMUTABLE
AS $$ SELECT coalesce(t.now < t.value_until, false) $$;

CREATE OR REPLACE FUNCTION value_of(t turn) RETURNS json LANGUAGE sql IMMUTABLE AS $$
  SELECT json_build_array(encode(t.value, 'hex'), t.value_fence, t.value_written, t.value_until)
$$;

-- Tells a process; the message leaves when the transaction commits.
CREATE OR REPLACE FUNCTION tell(t turn, channel text, message json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF channel <> '' AND NOT t.looks THEN
    PERFORM pg_notify(split_part(channel, ':', 1), message::text);
  END IF;
END $$;

-- Whether the session that listens for a waiter is there; true if nobody knows, as for a waiter that has
-- given no sign of life since the server was started.
CREATE OR REPLACE FUNCTION is_heard(w waiter) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
  listener integer := nullif(split_part(w.channel, ':', 2), '');
BEGIN
  RETURN listener IS NULL
    OR w.until - w.wait_ttl < extract(epoch FROM pg_postmaster_start_time()) * 1000000
    OR EXISTS (SELECT FROM pg_stat_get_activity(listener));
END $$;

CREATE OR REPLACE FUNCTION tell_granted(t turn, channel text, h holder) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF h.member IS DISTINCT FROM t.caller THEN
    PERFORM tell(t, channel, json_build_object('name', t.name, 'granted', encode(h.member, 'hex'),
      'grant', grant_of(h, NULL)));
  END IF;
END $$;

-- Whether so many seats are free for a member beside everybody else.
CREATE OR REPLACE FUNCTION fits(holders holder[], take bigint, out_of bigint, who bytea) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  h holder;
  taken bigint := 0;
BEGIN
  FOREACH h IN ARRAY holders LOOP
    IF h.member IS DISTINCT FROM who THEN
      IF out_of = 0 OR h.out_of = 0 THEN RETURN false; END IF;
      taken := taken + h.take;
    END IF;
  END LOOP;
  RETURN out_of = 0 OR (cardinality(holders) < 4096 AND taken + take <= out_of);
END $$;

-- How many seats live members count, if it is another number; null otherwise. Whoever upgraded may
-- go back to what it held.
CREATE OR REPLACE FUNCTION other_limit(t turn, out_of bigint, who bytea) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  h holder;
  w waiter;
  counts bigint;
BEGIN
  IF out_of = 0 THEN RETURN NULL; END IF;
  FOREACH h IN ARRAY t.holders LOOP
    counts := CASE WHEN h.upgrades IS NULL THEN h.out_of ELSE h.out_of_before END;
    IF counts <> 0 AND counts <> out_of AND h.member <> who THEN RETURN counts; END IF;
  END LOOP;
  FOREACH w IN ARRAY t.queue LOOP
    IF w.out_of <> 0 AND w.out_of <> out_of AND w.member <> who THEN RETURN w.out_of; END IF;
  END LOOP;
  RETURN NULL;
END $$;

-- The queue without some: of this member and of this claim, where one is given, but for `but_id`.
CREATE OR REPLACE FUNCTION queue_without(queue waiter[], who bytea, id text, but_id text)
RETURNS waiter[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  w waiter;
  rest waiter[] := '{}';
BEGIN
  FOREACH w IN ARRAY queue LOOP
    IF w.member <> who OR w.claim <> id OR w.claim = but_id THEN
      rest := rest || w;
    END IF;
  END LOOP;
  RETURN rest;
END $$;

-- Removes a member, with the upgrade it may be waiting for, and remembers how it went.
CREATE OR REPLACE FUNCTION depart(t turn, who bytea, how text, by_whom text, why text) RETURNS turn
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  at integer := seat_of(t.holders, who);
BEGIN
  IF at IS NOT NULL THEN
    t.holders := t.holders[:at - 1] || t.holders[at + 1:];
  END IF;
  -- A holder waits for nothing but an upgrade, which is first in the queue.
  IF (t.queue[1]).member = who THEN
    t.queue := t.queue[2:];
  END IF;
  IF how = 'released' THEN
    t.released := t.released || half(who);
    t.released_until := t.released_until || (t.now + 600000000);
  ELSE
    t.others := t.others || ROW(who, how, by_whom, why, t.now + 600000000)::departed;
  END IF;
  t.changed := true;
  RETURN t;
END $$;

-- Ends a holder that did not ask for it, so that it is told. One that is over knows.
CREATE OR REPLACE FUNCTION end_holder(t turn, h holder, how text, by_whom text, why text) RETURNS turn
LANGUAGE plpgsql AS $$
BEGIN
  IF how <> 'expired' THEN
    PERFORM tell(t, h.channel, json_build_object('name', t.name, 'gone', encode(h.member, 'hex'),
      'how', how, 'by', by_whom, 'why', why));
  END IF;
  RETURN depart(t, h.member, how, by_whom, why);
END $$;

-- How a member departed: { how, by, why }.
CREATE OR REPLACE FUNCTION departure(t turn, who bytea) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  at integer := array_position(t.released, half(who));
  o departed;
  known departed;
BEGIN
  IF t.now < t.released_until[at] THEN
    RETURN json_build_array('released', '', '');
  END IF;
  FOREACH o IN ARRAY t.others LOOP
    IF o.member = who AND t.now < o.until THEN known := o; END IF;
  END LOOP;
  RETURN json_build_array(coalesce(known.how, 'forgotten'), coalesce(known.by_whom, ''),
    coalesce(known.why, ''));
END $$;

-- Seats a waiter that is not there to ask: its lease lives for the pick-up term.
CREATE OR REPLACE FUNCTION seat(t turn, w waiter) RETURNS holder LANGUAGE sql IMMUTABLE AS $$
  SELECT ROW(w.member, w.claim, w.take, w.out_of, next_fence(t.fence, t.now), t.now, t.now, w.pick_up,
    true, NULL, NULL, NULL, w.ttl, w.detached, w.details, w.channel)::holder
$$;

-- What a holder is that upgraded.
CREATE OR REPLACE FUNCTION raised(t turn, h holder, id text) RETURNS holder LANGUAGE sql IMMUTABLE AS $$
  SELECT ROW(h.member, h.claim, 0, 0, next_fence(t.fence, t.now), h.since, h.renewed, h.term, false,
    ARRAY[id], h.take, h.out_of, h.ttl, h.detached, h.details, h.channel)::holder
$$;

-- Takes everybody out of the queue who would rather have the value, and has them look.
CREATE OR REPLACE FUNCTION answer_with_value(t turn) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  w waiter;
  rest waiter[] := '{}';
BEGIN
  FOREACH w IN ARRAY t.queue LOOP
    IF w.or_value THEN
      PERFORM tell(t, w.channel, json_build_object('name', t.name, 'look', encode(w.member, 'hex')));
      t.others := t.others || ROW(w.member, 'answered', '', '', t.now + 600000000)::departed;
      t.changed := true;
    ELSE
      rest := rest || w;
    END IF;
  END LOOP;
  t.queue := rest;
  RETURN t;
END $$;

-- Hands free seats to the waiters in their order, up to the first that does not fit: nobody behind
-- it may pass, or a writer would starve behind readers. Whoever nobody listens for is gone, or about to
-- come back and ask: it keeps its place, and those behind it do not wait for that.
CREATE OR REPLACE FUNCTION serve(t turn) RETURNS turn LANGUAGE plpgsql AS $$
DECLARE
  all_seats constant bigint := 1::bigint << 40;
  holders holder[] := t.holders;
  passed_over waiter[] := '{}';
  looked integer := 0;
  h holder;
  w waiter;
  is_full boolean;
  taken bigint := 0;
  at integer;
BEGIN
  IF cardinality(t.queue) = 0 THEN RETURN t; END IF;
  IF cardinality(holders) = 0 AND has_value(t) THEN
    t := answer_with_value(t);
  END IF;
  FOREACH h IN ARRAY holders LOOP
    taken := taken + CASE WHEN h.out_of = 0 THEN all_seats ELSE h.take END;
  END LOOP;
  FOREACH w IN ARRAY t.queue LOOP
    is_full := CASE
      WHEN w.upgrade THEN NOT fits(holders, 0, 0, w.member)
      WHEN w.out_of = 0 THEN cardinality(holders) > 0
      ELSE cardinality(holders) >= 4096 OR taken + w.take > w.out_of END;
    EXIT WHEN is_full;
    looked := looked + 1;
    IF w.upgrade THEN
      at := seat_of(holders, w.member);
      h := raised(t, holders[at], w.claim);
      holders[at] := h;
      t.fence := h.fence;
      taken := all_seats;
      PERFORM tell_granted(t, w.channel, h);
    ELSIF w.member = t.caller OR is_heard(w) THEN
      h := seat(t, w);
      holders := holders || h;
      t.fence := h.fence;
      taken := taken + CASE WHEN h.out_of = 0 THEN all_seats ELSE h.take END;
      PERFORM tell_granted(t, w.channel, h);
    ELSE
      passed_over := passed_over || w;
    END IF;
  END LOOP;
  IF cardinality(passed_over) < looked THEN
    t.holders := holders;
    t.queue := passed_over || t.queue[looked + 1:];
    t.changed := true;
  END IF;
  RETURN t;
END $$;

-- A sign of life of whoever waits.
CREATE OR REPLACE FUNCTION refresh_place(t turn, who bytea) RETURNS turn LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  queue waiter[] := t.queue;
  w waiter;
  at integer := 0;
BEGIN
  FOREACH w IN ARRAY queue LOOP
    at := at + 1;
    IF w.member = who THEN
      queue[at].until := t.now + w.wait_ttl;
      t.changed := true;
    END IF;
  END LOOP;
  t.queue := queue;
  RETURN t;
END $$;

-- Leaves a tombstone.
CREATE OR REPLACE FUNCTION bury(t turn, id text, keep bigint) RETURNS turn LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  t.withdrawn := array(SELECT ROW(b.claim, b.until)::tombstone FROM unnest(t.withdrawn) AS b
    WHERE b.claim <> id) || ROW(id, t.now + keep)::tombstone;
  t.changed := true;
  RETURN t;
END $$;

CREATE OR REPLACE FUNCTION write_value(t turn, bytes bytea, keep bigint, by_fence bigint) RETURNS turn
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  t.value := bytes;
  t.value_fence := by_fence;
  t.value_written := t.now;
  t.value_until := t.now + keep;
  t.changed := true;
  RETURN t;
END $$;

-- Begins a turn of a lock as it is stored: ends what is over and hands on what that frees.
CREATE OR REPLACE FUNCTION take_up(c cell, moment bigint, who bytea, looks boolean) RETURNS turn
LANGUAGE plpgsql AS $$
DECLARE
  t turn := ROW(c.name, c.fence, c.last_arrival, c.holders, c.queue, c.released, c.released_until,
    c.others, c.withdrawn, c.value, c.value_fence, c.value_written, c.value_until, moment, who, looks,
    false, NULL);
  h holder;
  w waiter;
  over text[] := '{}';
  rest waiter[] := '{}';
BEGIN
  -- Where the clock was set back, nobody holds or waits for longer than a term from now on.
  FOR i IN 1 .. cardinality(t.holders) LOOP
    IF moment < t.holders[i].renewed THEN
      t.holders[i].renewed := moment;
      t.changed := true;
    END IF;
  END LOOP;
  FOR i IN 1 .. cardinality(t.queue) LOOP
    IF moment + t.queue[i].wait_ttl < t.queue[i].until THEN
      t.queue[i].until := moment + t.queue[i].wait_ttl;
      t.changed := true;
    END IF;
  END LOOP;
  FOREACH h IN ARRAY t.holders LOOP
    IF h.renewed + h.term <= moment THEN
      t := end_holder(t, h, 'expired', '', '');
    END IF;
  END LOOP;
  IF cardinality(t.queue) = 0 THEN RETURN t; END IF;
  FOREACH w IN ARRAY t.queue LOOP
    -- An upgrade waits as long as its holder lives; `depart` has seen to that.
    IF NOT w.upgrade AND w.until <= moment THEN
      over := over || w.claim;
    END IF;
  END LOOP;
  IF cardinality(over) > 0 THEN
    FOREACH w IN ARRAY t.queue LOOP
      IF w.claim <> ALL (over) OR w.upgrade THEN
        rest := rest || w;
      END IF;
    END LOOP;
    t.queue := rest;
    t.changed := true;
  END IF;
  RETURN serve(t);
END $$;

-- Keeps the row small: what is old goes, and the oldest beyond the bounds.
CREATE OR REPLACE FUNCTION forget_what_is_old(t turn) RETURNS turn LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  WHILE cardinality(t.released) > 16 OR t.released_until[1] <= t.now LOOP
    t.released := t.released[2:];
    t.released_until := t.released_until[2:];
  END LOOP;
  IF cardinality(t.others) > 0 THEN
    t.others := array(SELECT ROW(o.member, o.how, o.by_whom, o.why, o.until)::departed
      FROM unnest(t.others) AS o WHERE t.now < o.until);
    t.others := t.others[greatest(cardinality(t.others) - 48, 0) + 1:];
  END IF;
  IF cardinality(t.withdrawn) > 0 THEN
    t.withdrawn := array(SELECT ROW(b.claim, b.until)::tombstone
      FROM unnest(t.withdrawn) AS b WHERE t.now < b.until);
    t.withdrawn := t.withdrawn[greatest(cardinality(t.withdrawn) - 1024, 0) + 1:];
  END IF;
  IF t.value_until <= t.now THEN
    t.value := NULL;
    t.value_fence := NULL;
    t.value_written := NULL;
    t.value_until := NULL;
  END IF;
  RETURN t;
END $$;

-- Ends a turn: stores what has changed.
CREATE OR REPLACE FUNCTION put_down(t turn) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT t.changed OR t.looks THEN RETURN; END IF;
  t := forget_what_is_old(t);
  UPDATE cell SET fence = t.fence, last_arrival = t.last_arrival, holders = t.holders,
    queue = t.queue, released = t.released, released_until = t.released_until, others = t.others,
    withdrawn = t.withdrawn, value = t.value, value_fence = t.value_fence,
    value_written = t.value_written, value_until = t.value_until, used = t.now
  WHERE cell.name = t.name;
END $$;
