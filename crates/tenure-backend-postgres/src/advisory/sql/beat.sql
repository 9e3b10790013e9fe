select pg_backend_pid(),
       case when pg_is_in_recovery() then 0
            else ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int8 end,
       count(*) filter (where pid = pg_backend_pid() and locktype = 'advisory'),
       count(*)
  from pg_locks
