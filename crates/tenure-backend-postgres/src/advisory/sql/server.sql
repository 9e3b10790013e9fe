select current_setting('server_version_num')::int4,
       pg_is_in_recovery(),
       pg_backend_pid(),
       current_setting('max_locks_per_transaction')::int8
         * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
       case when $1 then (select count(*) from pg_locks) end,
       (select (extract(epoch from backend_start) * 1e6)::int8
          from pg_stat_get_activity(pg_backend_pid())),
       (select min(known.at) from unnest($2::int4[], $3::int8[]) with ordinality as known (pid, born, at),
               pg_stat_get_activity(known.pid) as there
         where (extract(epoch from there.backend_start) * 1e6)::int8 = known.born)
