-- Writes to the row of a source. A row that is gone is no error. The wait for a lock ends before Postgres looks for deadlocks (after 1 s by
-- default), so that no deadlock ends the transaction of the user who has locked the row.
, {name} as (
    update {table} as source
       set {assignments}
      from held
      join anomaly.records as r on r.id = held.id
     where r.source = {source}
       and {matches}
       and set_config('lock_timeout', '900ms', true) is not null
)
