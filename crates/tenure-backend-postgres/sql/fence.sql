-- Installs the sequence of fencing tokens for advisory locks in the schema ":schema", if it is not there.
--
-- Whoever runs this needs CREATE on the database, or to own the schema already. Users of locks need
--   GRANT USAGE ON SCHEMA :schema TO …;
--   GRANT USAGE ON SEQUENCE :schema.fence TO …;
-- and nothing else.
BEGIN;
SET LOCAL client_min_messages = warning;
-- One at a time.
SELECT pg_advisory_xact_lock(hashtextextended('tenure install', 0));
DO $$
BEGIN
  IF current_setting('server_version_num')::integer < 140000 THEN
    RAISE EXCEPTION 'PostgreSQL 14 or newer is needed' USING ERRCODE = 'feature_not_supported';
  END IF;
  IF to_regnamespace(':schema') IS NULL THEN
    CREATE SCHEMA :schema;
  END IF;
  IF to_regclass(':schema.fence') IS NULL THEN
    CREATE SEQUENCE :schema.fence;
  END IF;
END $$;
COMMIT;
