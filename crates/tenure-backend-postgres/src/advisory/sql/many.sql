-- One row for each wish, in their order: the fence or null, or 1 if it was given back.
select case op when 0 then case when pg_try_advisory_lock(key) then nextval('{schema}.fence') end
               when 1 then case when pg_try_advisory_lock_shared(key) then nextval('{schema}.fence') end
               when 2 then pg_advisory_unlock(key)::int::int8
               else pg_advisory_unlock_shared(key)::int::int8
       end
  from unnest($1::int8[], $2::int2[]) as wish (key, op)
