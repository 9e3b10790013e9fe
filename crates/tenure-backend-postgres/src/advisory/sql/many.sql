-- Whether each wish was granted, in their order; and if any lock was taken, one number for all of
-- them: drawn when the last of them is there, for an aggregate is done before it is projected.
select array_agg(did),
       case when bool_or(did and op < 2) then nextval('{schema}.fence') end
  from (select op,
               case op when 0 then pg_try_advisory_lock(key)
                       when 1 then pg_try_advisory_lock_shared(key)
                       when 2 then pg_advisory_unlock(key)
                       else pg_advisory_unlock_shared(key)
               end as did
          from unnest($1::int8[], $2::int2[]) as wish (key, op)
        offset 0) as done
