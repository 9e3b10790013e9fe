select l.pid,
       l.mode = 'ShareLock',
       l.granted,
       coalesce(a.application_name, ''),
       coalesce(a.usename::text, ''),
       coalesce(a.client_hostname, host(a.client_addr), ''),
       coalesce((extract(epoch from coalesce(l.waitstart, a.state_change)) * 1e6)::int8, 0),
       coalesce((extract(epoch from a.state_change) * 1e6)::int8, 0),
       coalesce(a.state, '') = 'idle',
       (extract(epoch from clock_timestamp()) * 1e6)::int8
  from pg_locks l left join pg_stat_activity a on a.pid = l.pid
 where l.locktype = 'advisory' and l.objsubid = 1
   and l.database = (select oid from pg_database where datname = current_database())
   and l.classid = (($1::int8 >> 32) & 4294967295)::oid
   and l.objid = ($1::int8 & 4294967295)::oid
 order by l.granted desc, l.waitstart nulls last, l.pid
