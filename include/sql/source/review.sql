-- Writes a decision of a person, and then to the row of a source. Without a decision there is nothing to write.
with decided as materialized (
{review}), held as (
    select %(record_id)s::bigint as id from decided
)
{written}
select review, reviewed_by, reviewed_at, decisions from decided
