-- What people call, with psql or from any program:
--
--   SELECT * FROM tenure.acquire('name', owner => 'psql', ttl => '30s');
--   SELECT * FROM tenure.renew('name', 'the token that acquire gave');
--   SELECT tenure.release('name', 'the token that acquire gave');
--   SELECT * FROM tenure.inspect('name');
--
-- A lock taken so is one like any other, and excludes and is excluded by all of them. It lives for its
-- ttl, whatever becomes of the session, unless it is renewed or released. What is asked in a
-- transaction happens when that commits; until then it holds up others who ask for the same lock.

CREATE OR REPLACE FUNCTION check_name(name text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF coalesce(octet_length(convert_to(name, 'UTF8')) NOT BETWEEN 1 AND 512, true)
    OR name ~ '[\u0001-\u001f\u007f-\u009f]' THEN
    RAISE EXCEPTION 'a lock name is 1 to 512 bytes of UTF-8 without control characters'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
END $$;

CREATE OR REPLACE FUNCTION micros_of(ttl interval) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF coalesce(ttl NOT BETWEEN '100 milliseconds' AND '30 days', true) THEN
    RAISE EXCEPTION 'a ttl lies between 100 ms and 30 days, this one is %', ttl
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN (extract(epoch FROM ttl) * 1000000)::bigint;
END $$;

CREATE OR REPLACE FUNCTION moment_of(micros bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
AS $$ SELECT timestamptz 'epoch' + micros * interval '1 microsecond' $$;

CREATE OR REPLACE FUNCTION member_of(token text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF coalesce(token !~ '^[0-9a-f]{32}$', true) THEN
    RAISE EXCEPTION 'a token is 32 hex digits, as acquire gives it'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  RETURN sha256(decode(token, 'hex'));
END $$;

-- Takes a lock, or `take` of `out_of` seats of it, for `ttl`. `state` is
--   granted   it is held until `until`; hand `fence` to what the lock protects, and keep `token`, which
--             alone renews and releases it
--   busy      others have it
--   queued    with `wait`: a place in the queue, `ahead` of which so many wait. It is kept for 30 s:
--             ask again with the same `token`, until it is granted
--   refused   `says` why
CREATE OR REPLACE FUNCTION acquire(name text, owner text DEFAULT session_user::text,
  ttl interval DEFAULT '30 seconds', take integer DEFAULT NULL, out_of bigint DEFAULT NULL,
  wait boolean DEFAULT false, OUT state text, OUT fence bigint, INOUT token text DEFAULT NULL,
  OUT until timestamptz, OUT ahead integer, OUT says text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  micros bigint := micros_of(acquire.ttl);
  secret text := coalesce(token, replace(gen_random_uuid()::text, '-', ''));
  member bytea := member_of(secret);
  details json := json_build_object('owner', json_build_object('label', owner,
    'host', coalesce(host(inet_client_addr()), 'the database server'), 'pid', pg_backend_pid()));
  found_row record;
  t turn;
  granted json;
BEGIN
  PERFORM check_name($1);
  IF coalesce(octet_length(owner) NOT BETWEEN 1 AND 256, true) OR owner ~ '[\u0001-\u001f\u007f-\u009f]' THEN
    RAISE EXCEPTION 'an owner label is 1 to 256 bytes of UTF-8 without control characters'
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  IF (take IS NULL) <> (out_of IS NULL) OR take < 1 OR take > out_of OR out_of > 4294967295 THEN
    RAISE EXCEPTION 'a claim takes at least 1 and at most all seats' USING
      ERRCODE = 'invalid_parameter_value', HINT = 'give both take and out_of, or none for all seats';
  END IF;
  PERFORM make_durable();
  found_row := row_of($1, true, -1);
  t := take_up(found_row.c, clock_micros(), member, false);
  t := on_claim(t, ROW(member, encode(half(member), 'hex'), coalesce(take, 0),
    coalesce(out_of, 0), micros, true, details, '', wait, 30000000, least(micros, 2000000), false,
    false, '', '', 0)::claim);
  PERFORM put_down(t);
  state := t.answer ->> 0;
  token := CASE WHEN state IN ('granted', 'queued') THEN secret END;
  CASE state
    WHEN 'granted' THEN
      granted := t.answer -> 1;
      fence := granted ->> 0;
      until := moment_of((granted ->> 3)::bigint + (granted ->> 4)::bigint);
    WHEN 'queued' THEN
      ahead := t.answer -> 1 ->> 0;
    WHEN 'busy' THEN
      ahead := t.answer -> 1 ->> 0;
      says := 'held by ' || coalesce((SELECT string_agg(h.details #>> '{owner,label}', ', ')
        FROM unnest(t.holders) AS h), 'nobody, but others wait');
    ELSE
      says := CASE state
        WHEN 'departed' THEN 'the token held the lock before: it was ' || (t.answer -> 1 ->> 0)
        WHEN 'withdrawn' THEN 'the claim was withdrawn'
        WHEN 'mismatch' THEN 'the lock has ' || (t.answer ->> 1) || ' seats'
        ELSE state END;
      state := 'refused';
  END CASE;
END $$;

-- Renews a lease, or a place in the queue; with a ttl also changes how long it lives. `state` is
-- granted, queued or gone.
CREATE OR REPLACE FUNCTION renew(name text, token text, ttl interval DEFAULT NULL, OUT state text,
  OUT fence bigint, OUT until timestamptz, OUT says text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  member bytea := member_of(token);
  micros bigint := CASE WHEN ttl IS NULL THEN 0 ELSE micros_of(ttl) END;
  found_row record;
  t turn;
BEGIN
  PERFORM check_name($1);
  PERFORM make_durable();
  found_row := row_of($1, false, -1);
  t := take_up(found_row.c, clock_micros(), member, false);
  t := on_renew(t, member, ttl IS NOT NULL, micros, true);
  PERFORM put_down(t);
  CASE t.answer ->> 0
    WHEN 'holding' THEN
      state := 'granted';
      fence := t.answer -> 1 ->> 0;
      until := moment_of((t.answer -> 1 ->> 3)::bigint + (t.answer -> 1 ->> 4)::bigint);
    WHEN 'waiting' THEN
      state := 'queued';
    ELSE
      state := 'gone';
      says := t.answer -> 1 ->> 0;
  END CASE;
END $$;

-- Gives a lock back, or a place in its queue, and hands over to whoever is next. Answers whether it was
-- held, or waited for, until now; false says that it had ended before.
CREATE OR REPLACE FUNCTION release(name text, token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
  member bytea := member_of(token);
  found_row record;
  t turn;
BEGIN
  PERFORM check_name($1);
  PERFORM make_durable();
  found_row := row_of($1, false, -1);
  t := take_up(found_row.c, clock_micros(), member, false);
  IF seat_of(t.holders, member) IS NULL
    AND EXISTS (SELECT FROM unnest(t.queue) AS w WHERE w.member = sha256(decode(token, 'hex'))) THEN
    t := on_withdraw(t, member, encode(half(member), 'hex'), 60000000);
  ELSE
    t := on_release(t, member, NULL, 0);
  END IF;
  PERFORM put_down(t);
  RETURN t.answer ->> 0 IN ('released', 'done');
END $$;

-- Shows who holds a lock and who waits for it, next first; with `%` at the end, all locks whose names
-- begin so.
CREATE OR REPLACE FUNCTION inspect(name text DEFAULT '%')
RETURNS TABLE (lock text, role text, owner text, host text, pid bigint, seats text, fence bigint,
  since timestamptz, until timestamptz, member text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
  moment bigint := clock_micros();
  c cell;
  t turn;
BEGIN
  FOR c IN SELECT * FROM cell
    WHERE CASE WHEN $1 LIKE '%\%' THEN starts_with(cell.name, left($1, -1)) ELSE cell.name = $1 END
    ORDER BY cell.name
  LOOP
    t := take_up(c, moment, NULL, true);
    RETURN QUERY SELECT c.name, 'holder', h.details #>> '{owner,label}', h.details #>> '{owner,host}',
        (h.details #>> '{owner,pid}')::bigint,
        CASE WHEN h.out_of = 0 THEN 'all' ELSE h.take || ' of ' || h.out_of END, h.fence,
        moment_of(h.since), moment_of(h.renewed + h.term), left(encode(h.member, 'hex'), 16)
      FROM unnest(t.holders) AS h;
    RETURN QUERY SELECT c.name, 'waiter', w.details #>> '{owner,label}', w.details #>> '{owner,host}',
        (w.details #>> '{owner,pid}')::bigint,
        CASE WHEN w.out_of = 0 THEN 'all' ELSE w.take || ' of ' || w.out_of END, NULL::bigint,
        moment_of(w.arrival), NULL::timestamptz, left(encode(w.member, 'hex'), 16)
      FROM unnest(t.queue) AS w;
  END LOOP;
END $$;
