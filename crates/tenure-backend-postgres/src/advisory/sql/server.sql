select current_setting('server_version_num')::int4,
       pg_is_in_recovery(),
       pg_backend_pid(),
       current_setting('max_locks_per_transaction')::int8
         * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8),
       case when $1 then (select count(*) from pg_locks) end
