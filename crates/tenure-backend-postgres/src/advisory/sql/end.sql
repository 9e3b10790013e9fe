with others as (
    select count(*) as n from pg_locks
     where pid = $1::int4 and locktype = 'advisory'
       and (objsubid <> 1 or (classid::int8 << 32) | objid::int8 <> $2::int8)
), holds as (
    select count(*) as n from pg_locks
     where pid = $1::int4 and locktype = 'advisory' and granted
       and objsubid = 1 and (classid::int8 << 32) | objid::int8 = $2::int8
)
select case when holds.n = 0 then 0 else others.n end,
       case when holds.n = 0 then true
            when others.n = 0 then pg_terminate_backend($1::int4, 1000)
            else false end
  from others, holds
