-- The decisions about a record, the newest first, and which of them were taken back.
select v.id as decision, v.verdict, v.label, v.comment, v.reviewer, v.at, v.token, v.takes_back,
       exists (select from anomaly.reviews as b where b.takes_back = v.id) as taken_back
  from anomaly.reviews as v
 where v.record_id = %(record_id)s::bigint
 order by v.number desc
 limit 100
