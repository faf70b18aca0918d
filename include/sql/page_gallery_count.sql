-- Counts judged records, at most `size` of them.
select count(*) as records
  from (select
          from anomaly.judged(%(verdict)s::boolean, %(reviewed)s::text, %(low)s::double precision, %(high)s::double precision,
                              %(label)s::text, %(detector)s::text, %(since)s::timestamptz, %(until)s::timestamptz) as j
         where %(attribute)s::text is null or exists (
               select from anomaly.records as r where r.id = j.record_id
                  and coalesce(to_jsonb(r) -> 'attributes', to_jsonb(r)) ->> %(attribute)s::text = %(attribute_value)s::text)
         limit %(size)s::integer) as f
