-- Adds a demo record. Its attributes hold the image's path, the type of cell and the experts' label.
insert into anomaly.records (image_url, captured_at, attributes)
values (%(image_url)s, now() - %(age_s)s * interval '1 s', %(attributes)s)
