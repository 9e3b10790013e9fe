-- Whether each wish was granted, in their order; and if any lock was taken, a number for each 64 of
-- them: drawn when the last of them is there, for an aggregate is done before it is projected.
select did, case when takes then array(
         select nextval('{schema}.fence') from generate_series(1, (cardinality(did) + 63) / 64))
       else '{}' end
  from (select array_agg(did) as did, bool_or(did and op < 2) as takes
          from (select op,
                       case op when 0 then pg_try_advisory_lock(key)
                               when 1 then pg_try_advisory_lock_shared(key)
                               when 2 then pg_advisory_unlock(key)
                               else pg_advisory_unlock_shared(key)
                       end as did
                  from unnest($1::int8[], $2::int2[]) as wish (key, op)
                offset 0) as done
        offset 0) as done
