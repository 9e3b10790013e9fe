select (classid::int8 << 32) | objid::int8, mode = 'ShareLock'
  from pg_locks
 where pid = pg_backend_pid() and locktype = 'advisory' and objsubid = 1 and granted
