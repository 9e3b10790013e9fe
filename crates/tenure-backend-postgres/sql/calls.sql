-- What clients call: each a transaction of its own, and one round trip.
--
-- A call runs with the rights of whoever installed the schema, so that a client needs no more than
-- USAGE of the schema. Rows are locked in the order of their names. With `patience` 0 a row that
-- somebody else has locked is skipped, so that a transaction that sits on one lock holds up nobody who
-- asks for another; what was skipped is answered ["skipped"], and asked again alone, with as many
-- milliseconds of patience. A call that waits in vain fails with 55P03 and has changed nothing.

-- What is granted must survive a crash of the server, or its fence could be granted twice.
CREATE OR REPLACE FUNCTION make_durable() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END $$;

-- The row of a lock, locked; made if there is none and `make` says so. With `is_skipped` if somebody
-- else has it. A negative patience is that of the transaction.
CREATE OR REPLACE FUNCTION row_of(of_name text, make boolean, patience integer, OUT c cell,
  OUT is_skipped boolean) LANGUAGE plpgsql AS $$
BEGIN
  is_skipped := false;
  IF patience > 0 THEN
    PERFORM set_config('lock_timeout', patience::text, true);
  END IF;
  LOOP
    IF patience = 0 THEN
      SELECT * INTO c FROM cell WHERE cell.name = of_name FOR UPDATE SKIP LOCKED;
    ELSE
      SELECT * INTO c FROM cell WHERE cell.name = of_name FOR UPDATE;
    END IF;
    IF FOUND THEN
      IF c.fence = 0 THEN
        -- It was never granted: it begins above all that was pruned.
        SELECT pruned.fence INTO c.fence FROM pruned;
      END IF;
      RETURN;
    END IF;
    IF patience = 0 THEN
      IF EXISTS (SELECT FROM cell WHERE cell.name = of_name) THEN
        is_skipped := true;
        RETURN;
      END IF;
      -- Somebody may be making it in a transaction that goes on.
      PERFORM set_config('lock_timeout', '20', true);
    END IF;
    IF NOT make THEN
      c := ROW(of_name, 0, 0, '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, 0);
      RETURN;
    END IF;
    INSERT INTO cell (name) VALUES (of_name) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- Whether a lock is free, and there is nothing to say about whoever asks for it: no rule but the fence
-- has a part in a plain claim.
CREATE OR REPLACE FUNCTION is_simple(c cell, member bytea) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT cardinality(c.holders) = 0 AND cardinality(c.queue) = 0 AND cardinality(c.others) = 0
    AND cardinality(c.withdrawn) = 0 AND half(member) <> ALL (c.released)
$$;

-- Whether somebody is the only holder, for longer, nobody waits, and there is nothing to forget: no rule
-- but this has a part in its sign of life or its release.
CREATE OR REPLACE FUNCTION is_alone(c cell, member bytea, moment bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT cardinality(c.queue) = 0 AND cardinality(c.others) = 0 AND cardinality(c.withdrawn) = 0
    AND cardinality(c.holders) = 1 AND c.holders[1].member = member
    AND c.holders[1].renewed <= moment AND moment < c.holders[1].renewed + c.holders[1].term
$$;

-- Locks the rows of these locks, as far as they are there and nobody else has them.
CREATE OR REPLACE FUNCTION lock_rows(names text[], OUT locked text[]) LANGUAGE plpgsql AS $$
BEGIN
  WITH rows AS MATERIALIZED (
    SELECT cell.name FROM cell WHERE cell.name = ANY (names) ORDER BY cell.name
    FOR UPDATE SKIP LOCKED
  )
  SELECT coalesce(array_agg(rows.name), '{}') INTO locked FROM rows;
END $$;

-- The numbers of the turns that are left, in the order in which they are to be taken.
CREATE OR REPLACE FUNCTION turns_left(names text[], done integer[], OUT numbers integer[])
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF cardinality(names) = 1 THEN
    numbers := '{1}';
    RETURN;
  END IF;
  SELECT coalesce(array_agg(n ORDER BY names[n] COLLATE "C", n), '{}') INTO numbers FROM (
    SELECT generate_subscripts(names, 1) AS n EXCEPT SELECT unnest(done)) AS left_over;
END $$;

-- Takes many claims. Answers their numbers from 1 on, each with `fence` and `at` for a plain claim of
-- a lock that nobody held or waited for, with what `on_claim` says otherwise. `wants` has for each
-- [wait, wait_ttl, pick_up, or_value, upgrade, force, by_whom, priority, detached]; `plain` says that
-- it wants all seats and nothing else that matters to a lock that is free.
CREATE OR REPLACE FUNCTION claim_many(names text[], members bytea[], claims text[], takes bigint[],
  out_ofs bigint[], ttls bigint[], details text[], plain boolean[], wants text[], channels text[],
  patience integer)
RETURNS TABLE (nr integer, fence bigint, at bigint, answer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  done integer[];
  fences bigint[];
  moment bigint;
  locked text[];
  found_row record;
  t turn;
  want json;
BEGIN
  PERFORM make_durable();
  IF cardinality(names) > 1 AND patience = 0 THEN
    locked := lock_rows(names);
    moment := clock_micros();
    WITH asked AS (
      -- Of several claims of one lock the first.
      SELECT DISTINCT ON (a.name) a.*
      FROM unnest(names, members, claims, ttls, details, plain, channels) WITH ORDINALITY
        AS a (name, member, claim, ttl, details, plain, channel, nr)
      ORDER BY a.name, a.nr
    ), taken AS (
      UPDATE cell SET fence = next_fence(cell.fence, moment), used = moment,
        holders = ARRAY[ROW(a.member, a.claim, 0, 0, next_fence(cell.fence, moment), moment, moment,
          a.ttl, false, NULL, NULL, NULL, a.ttl, false, a.details, a.channel)::holder]
      FROM asked AS a
      WHERE cell.name = a.name AND a.name = ANY (locked) AND a.plain AND is_simple(cell, a.member)
      RETURNING a.nr::integer, cell.fence
    )
    SELECT array_agg(taken.nr), array_agg(taken.fence) INTO done, fences FROM taken;
    RETURN QUERY SELECT u.nr, u.fence, moment, NULL::text FROM unnest(done, fences) AS u (nr, fence);
  END IF;
  FOREACH nr IN ARRAY turns_left(names, done) LOOP
    found_row := row_of(names[nr], true, patience);
    moment := clock_micros();
    IF found_row.is_skipped THEN
      fence := NULL; at := NULL; answer := '["skipped"]';
    ELSIF plain[nr] AND is_simple(found_row.c, members[nr]) THEN
      fence := next_fence((found_row.c).fence, moment); at := moment; answer := NULL;
      UPDATE cell SET fence = claim_many.fence, used = moment,
        holders = ARRAY[ROW(members[nr], claims[nr], 0, 0, claim_many.fence, moment, moment, ttls[nr],
          false, NULL, NULL, NULL, ttls[nr], false, details[nr], channels[nr])::holder]
      WHERE cell.name = names[nr];
    ELSE
      want := wants[nr];
      t := take_up(found_row.c, moment, members[nr], false);
      t := on_claim(t, ROW(members[nr], claims[nr], takes[nr], out_ofs[nr], ttls[nr],
        (want ->> 8)::boolean, details[nr], channels[nr], (want ->> 0)::boolean,
        (want ->> 1)::bigint, (want ->> 2)::bigint, (want ->> 3)::boolean, (want ->> 4)::boolean,
        want ->> 5, want ->> 6, (want ->> 7)::integer)::claim);
      PERFORM put_down(t);
      fence := NULL; at := NULL; answer := t.answer;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;

-- Takes many signs of life; never makes a row. Answers `fence` and `at` for whoever holds all seats
-- alone, with what `on_renew` says otherwise.
CREATE OR REPLACE FUNCTION renew_many(names text[], members bytea[], changes boolean[], ttls bigint[],
  detached boolean[], patience integer)
RETURNS TABLE (nr integer, fence bigint, at bigint, answer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  done integer[];
  answers text[];
  moment bigint;
  locked text[];
  found_row record;
  t turn;
BEGIN
  PERFORM make_durable();
  IF cardinality(names) > 1 AND patience = 0 THEN
    locked := lock_rows(names);
    moment := clock_micros();
    WITH asked AS (
      SELECT a.* FROM unnest(names, members, changes) WITH ORDINALITY AS a (name, member, change, nr)
    ), renewed AS (
      UPDATE cell SET used = moment, holders[1].renewed = moment, holders[1].handed_over = false,
        -- Never earlier than was promised before.
        holders[1].term =
          greatest(cell.holders[1].ttl, cell.holders[1].renewed + cell.holders[1].term - moment)
      FROM asked AS a
      WHERE cell.name = a.name AND a.name = ANY (locked) AND NOT a.change AND is_alone(cell, a.member, moment)
      RETURNING a.nr::integer,
        json_build_array('holding', grant_of(cell.holders[1], moment))::text AS said
    )
    SELECT array_agg(renewed.nr), array_agg(renewed.said) INTO done, answers FROM renewed;
    RETURN QUERY SELECT u.nr, NULL::bigint, NULL::bigint, u.said
      FROM unnest(done, answers) AS u (nr, said);
  END IF;
  FOREACH nr IN ARRAY turns_left(names, done) LOOP
    found_row := row_of(names[nr], false, patience);
    IF found_row.is_skipped THEN
      answer := '["skipped"]';
    ELSE
      t := take_up(found_row.c, clock_micros(), members[nr], false);
      t := on_renew(t, members[nr], changes[nr], ttls[nr], detached[nr]);
      PERFORM put_down(t);
      answer := t.answer;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;

-- What is left of the releases that are remembered when one more is: the latest 16.
CREATE OR REPLACE FUNCTION latest(remembered anyarray, one anyelement) RETURNS anyarray
LANGUAGE sql IMMUTABLE
AS $$ SELECT remembered[greatest(cardinality(remembered) - 15, 0) + 1:] || one $$;

-- Takes many plain releases, without a value; never makes a row. Answers `fence` and `at` for whoever
-- held alone, with what `on_release` says otherwise. Nothing is granted where nobody waits, and so
-- nobody waits for the disk there: a release that a crash forgets is a lease that ends with its ttl.
CREATE OR REPLACE FUNCTION release_many(names text[], members bytea[], patience integer)
RETURNS TABLE (nr integer, fence bigint, at bigint, answer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  done integer[];
  fences bigint[];
  moment bigint;
  locked text[];
  found_row record;
  t turn;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  IF cardinality(names) > 1 AND patience = 0 THEN
    locked := lock_rows(names);
    moment := clock_micros();
    WITH asked AS (
      SELECT a.* FROM unnest(names, members) WITH ORDINALITY AS a (name, member, nr)
    ), freed AS (
      UPDATE cell SET used = moment, holders = '{}', released = latest(cell.released, half(a.member)),
        released_until = latest(cell.released_until, moment + 600000000)
      FROM asked AS a
      WHERE cell.name = a.name AND a.name = ANY (locked) AND is_alone(cell, a.member, moment)
      RETURNING a.nr::integer, cell.fence
    )
    SELECT array_agg(freed.nr), array_agg(freed.fence) INTO done, fences FROM freed;
    RETURN QUERY SELECT u.nr, u.fence, moment, NULL::text FROM unnest(done, fences) AS u (nr, fence);
  END IF;
  FOREACH nr IN ARRAY turns_left(names, done) LOOP
    found_row := row_of(names[nr], false, patience);
    moment := clock_micros();
    IF found_row.is_skipped THEN
      fence := NULL; at := NULL; answer := '["skipped"]';
    ELSIF is_alone(found_row.c, members[nr], moment) THEN
      fence := (found_row.c).fence; at := moment; answer := NULL;
      UPDATE cell SET used = moment, holders = '{}',
        released = latest(cell.released, half(members[nr])),
        released_until = latest(cell.released_until, moment + 600000000)
      WHERE cell.name = names[nr];
    ELSE
      t := take_up(found_row.c, moment, members[nr], false);
      t := on_release(t, members[nr], NULL, 0);
      IF cardinality(t.holders) > 0 THEN
        PERFORM make_durable();
      END IF;
      PERFORM put_down(t);
      fence := NULL; at := NULL; answer := t.answer;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;

-- Takes one turn of another sort, by verb:
--   withdraw   [claim, keep]
--   downgrade  [fence, take, out_of]
--   release    [keep], with a value in `bytes`
--   put        [keep], with a value in `bytes`
--   evict      [only_if or null, stolen, by_whom, why]
CREATE OR REPLACE FUNCTION take_turn(of_name text, verb text, member bytea, args text, bytes bytea, patience integer)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  asked json := args;
  found_row record;
  t turn;
BEGIN
  PERFORM make_durable();
  found_row := row_of(of_name, verb = 'withdraw', patience);
  IF found_row.is_skipped THEN
    RETURN '["skipped"]';
  END IF;
  t := take_up(found_row.c, clock_micros(), member, false);
  CASE verb
    WHEN 'withdraw' THEN
      t := on_withdraw(t, member, asked ->> 0, (asked ->> 1)::bigint);
    WHEN 'downgrade' THEN
      t := on_downgrade(t, member, (asked ->> 0)::bigint, (asked ->> 1)::bigint, (asked ->> 2)::bigint);
    WHEN 'release' THEN
      t := on_release(t, member, bytes, (asked ->> 0)::bigint);
    WHEN 'put' THEN
      t := on_put(t, member, bytes, (asked ->> 0)::bigint);
    WHEN 'evict' THEN
      t := on_evict(t, (asked ->> 0)::numeric, (asked ->> 1)::boolean, asked ->> 2, asked ->> 3);
  END CASE;
  PERFORM put_down(t);
  RETURN t.answer;
END $$;

-- Looks at a lock; what is over is shown as ended, and nothing is changed.
CREATE OR REPLACE FUNCTION look(of_name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  c cell;
BEGIN
  SELECT * INTO c FROM cell WHERE cell.name = of_name;
  IF NOT FOUND THEN
    c := ROW(of_name, 0, 0, '{}', '{}', '{}', '{}', '{}', '{}', NULL, NULL, NULL, NULL, 0);
  END IF;
  RETURN show(take_up(c, clock_micros(), NULL, true));
END $$;

-- Looks at those locks whose names begin so and that hold, queue or keep something, in order of name.
CREATE OR REPLACE FUNCTION look_around(prefix text, at_most bigint) RETURNS TABLE (name text, answer text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  c cell;
  t turn;
  moment bigint := clock_micros();
BEGIN
  FOR c IN SELECT * FROM cell WHERE cell.name >= prefix AND (cardinality(holders) > 0
      OR cardinality(queue) > 0 OR moment < value_until) ORDER BY cell.name LOOP
    EXIT WHEN at_most <= 0 OR NOT starts_with(c.name, prefix);
    t := take_up(c, moment, NULL, true);
    IF cardinality(t.holders) > 0 OR cardinality(t.queue) > 0 OR has_value(t) THEN
      name := c.name;
      answer := show(t);
      at_most := at_most - 1;
      RETURN NEXT;
    END IF;
  END LOOP;
END $$;

-- Removes rows of locks that nobody has used for a day and that say no more than their fence, which is
-- remembered for all of them. Looks at `at_most` rows behind those that were looked at last, and
-- answers how many it removed.
CREATE OR REPLACE FUNCTION prune(at_most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  moment bigint := clock_micros();
  after text;
  last text;
  gone bigint;
  highest bigint;
BEGIN
  -- One at a time.
  SELECT pruned.up_to INTO after FROM pruned FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN 0; END IF;
  LOOP
    SELECT max(looked.name) INTO last FROM (
      SELECT cell.name FROM cell WHERE cell.name > after ORDER BY cell.name LIMIT at_most) AS looked;
    EXIT WHEN last IS NOT NULL OR after = '';
    after := '';
  END LOOP;
  PERFORM make_durable();
  WITH idle AS MATERIALIZED (
    SELECT name FROM cell
    WHERE name > after AND name <= last AND used < moment - 86400000000
      AND cardinality(holders) = 0 AND cardinality(queue) = 0
      AND coalesce(value_until <= moment, true)
      AND NOT EXISTS (SELECT FROM unnest(withdrawn) AS b WHERE moment < b.until)
    ORDER BY name FOR UPDATE SKIP LOCKED
  ), removed AS (
    DELETE FROM cell USING idle WHERE cell.name = idle.name RETURNING cell.fence
  )
  SELECT count(*), coalesce(max(removed.fence), 0) INTO gone, highest FROM removed;
  UPDATE pruned SET fence = greatest(pruned.fence, highest), up_to = coalesce(last, '');
  RETURN gone;
END $$;
