-- Counts judged records, at most `size` of them. Attributes have no index, and are not a condition.
select count(*) as records
  from (select
          from anomaly.judged(%(verdict)s::boolean, %(reviewed)s::text, %(low)s::double precision, %(high)s::double precision,
                              %(label)s::text, %(detector)s::text, %(since)s::timestamptz, %(until)s::timestamptz) as j
         limit %(size)s::integer) as f
