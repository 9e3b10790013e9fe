-- Installs tenure's lease table in the schema ":schema", or brings it up to date.
--
-- Whoever runs this needs CREATE on the database, or to own the schema already. Users of locks need
--   GRANT USAGE ON SCHEMA :schema TO …;
-- and nothing else: what they call runs with the rights of the schema's owner.
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
END $$;
SET LOCAL search_path = :schema, pg_catalog, pg_temp;
CREATE OR REPLACE FUNCTION installed_version() RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF to_regprocedure(':schema.schema_version()') IS NULL THEN RETURN 0; END IF;
  RETURN :schema.schema_version();
END $$;
DO $$
BEGIN
  IF installed_version() > :version THEN
    RAISE EXCEPTION 'version % of the schema is installed, this is version :version',
      installed_version() USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END $$;
