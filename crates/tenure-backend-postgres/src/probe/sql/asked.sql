-- What the server says of itself and of us; what this user may not see is null.
select json_build_object(
  'version', current_setting('server_version'),
  'version_num', current_setting('server_version_num')::int,
  'standby', pg_is_in_recovery(),
  'pid', pg_backend_pid(),
  'user', current_user,
  'superuser', (select rolsuper from pg_roles where rolname = current_user),
  'sees_all', pg_has_role('pg_read_all_stats', 'usage'),
  'database', current_database(),
  'may_create', has_database_privilege(current_database(), 'create'),
  'settings', (select json_object_agg(name, setting) from pg_settings where name = any ($1::text[])),
  'locks', (select count(*) from pg_locks),
  'sessions', (select count(*) from pg_stat_activity where usesysid is not null and datid is not null),
  'standbys', (select count(*) from pg_stat_replication),
  'in_step', (select count(*) from pg_stat_replication
               where state = 'streaming' and sync_state in ('sync', 'quorum')),
  'oldest_s', (select extract(epoch from max(clock_timestamp() - xact_start))::int8
                 from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()),
  'schema', (select json_build_object(
      'usage', has_schema_privilege(s.oid, 'usage'),
      'owner', r.rolname,
      'owned', pg_has_role(s.nspowner, 'usage'),
      'version', (select count(*) from pg_proc p
                   where p.pronamespace = s.oid and p.proname = 'schema_version') > 0,
      'refused', (select coalesce(json_agg(p.proname order by p.proname), '[]') from pg_proc p
                   where p.pronamespace = s.oid and (p.prosecdef or p.proname = 'schema_version')
                     and not has_function_privilege(p.oid, 'execute')),
      'fence', (select has_sequence_privilege(c.oid, 'usage') or has_sequence_privilege(c.oid, 'update')
                  from pg_class c
                 where c.relnamespace = s.oid and c.relname = 'fence' and c.relkind = 'S'))
    from pg_namespace s join pg_roles r on r.oid = s.nspowner where s.nspname = $2::text)
)::text
