-- Records a second apart, with the images of their own numbers.
insert into anomaly.records (image_url, captured_at)
select %(images_url)s || '/' || i, timestamptz '2026-01-01' + i * interval '1 s' from generate_series(1, %(records)s::integer) as i
