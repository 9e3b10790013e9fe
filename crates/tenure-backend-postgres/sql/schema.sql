-- What is stored: one row per lock, with everybody who holds or waits in it.
--
-- Times are the server's, in microseconds since 1970, and so are all durations. Members are the
-- SHA-256 of their tokens, which never get here. `take` of `out_of` seats; `out_of` 0 stands for all
-- seats, however many there are.

CREATE TYPE holder AS (
  member bytea,
  claim text,
  take bigint,
  out_of bigint,
  fence bigint,
  since bigint,
  renewed bigint,
  term bigint,          -- how long it lives from `renewed` on: the ttl, or the pick-up term
  handed_over boolean,
  upgrades text[],      -- the claims of a granted upgrade; null if it does not hold by one
  take_before bigint,   -- what it goes back to when the upgrade is withdrawn
  out_of_before bigint,
  ttl bigint,
  detached boolean,
  details json,
  channel text          -- where its process listens, `channel:pid`; '' if nowhere
);

CREATE TYPE waiter AS (
  member bytea,
  claim text,
  take bigint,
  out_of bigint,
  upgrade boolean,
  or_value boolean,
  priority integer,
  arrival bigint,
  until bigint,         -- refreshed before this time, or given up
  wait_ttl bigint,
  ttl bigint,
  pick_up bigint,
  detached boolean,
  details json,
  channel text
);

-- Whoever held or waited and is to be told how it ended, releases aside.
CREATE TYPE departed AS (member bytea, how text, by_whom text, why text, until bigint);

-- A claim that must never be granted.
CREATE TYPE tombstone AS (claim text, until bigint);

CREATE TABLE cell (
  name text COLLATE "C" PRIMARY KEY,
  fence bigint NOT NULL DEFAULT 0,
  last_arrival bigint NOT NULL DEFAULT 0,
  holders holder[] NOT NULL DEFAULT '{}',
  queue waiter[] NOT NULL DEFAULT '{}',      -- in the order of service
  released bytea[] NOT NULL DEFAULT '{}',    -- the first half of the ids that released last
  released_until bigint[] NOT NULL DEFAULT '{}',
  others departed[] NOT NULL DEFAULT '{}',
  withdrawn tombstone[] NOT NULL DEFAULT '{}',
  value bytea,
  value_fence bigint,
  value_written bigint,
  value_until bigint,
  used bigint NOT NULL DEFAULT 0             -- the last change, for whoever prunes
) WITH (fillfactor = 50, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- A cell in hand: its columns, and what goes on in this turn.
CREATE TYPE turn AS (
  name text,
  fence bigint,
  last_arrival bigint,
  holders holder[],
  queue waiter[],
  released bytea[],
  released_until bigint[],
  others departed[],
  withdrawn tombstone[],
  value bytea,
  value_fence bigint,
  value_written bigint,
  value_until bigint,
  now bigint,
  caller bytea,         -- hears by the answer, and needs no message
  looks boolean,        -- nothing is stored and nobody is told
  changed boolean,
  answer json
);

-- A claim as it is asked.
CREATE TYPE claim AS (
  member bytea,
  claim text,
  take bigint,
  out_of bigint,
  ttl bigint,
  detached boolean,
  details json,
  channel text,
  wait boolean,
  wait_ttl bigint,
  pick_up bigint,
  or_value boolean,
  upgrade boolean,
  force text,           -- why whoever is in the way has to go; '' if nobody has
  by_whom text,
  priority integer
);

-- One row: the highest fence of any lock whose row was pruned, above which a lock begins that comes back,
-- and the name up to which was looked last.
CREATE TABLE pruned (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  fence bigint NOT NULL DEFAULT 0,
  up_to text COLLATE "C" NOT NULL DEFAULT ''
);
INSERT INTO pruned DEFAULT VALUES;
