-- Returns whether records of the demo, and records of somebody else, are without a verdict. Records of the demo have its mark and a local
-- address.
select exists (select from anomaly.records
                where status in ('pending', 'claimed') and attributes ? 'demo' and image_url like 'http://127.0.0.1:%') as demo,
       exists (select from anomaly.records
                where status in ('pending', 'claimed') and not (attributes ? 'demo' and image_url like 'http://127.0.0.1:%')) as own
