select set_config('idle_session_timeout', $1, false),
       set_config('tcp_user_timeout', $1, false),
       set_config('synchronous_commit', 'on', false),
       set_config('client_connection_check_interval', '1000', false),
       set_config('statement_timeout', '0', false),
       set_config('lock_timeout', '0', false),
       set_config('idle_in_transaction_session_timeout', '0', false),
       set_config('search_path', 'pg_catalog', false)
