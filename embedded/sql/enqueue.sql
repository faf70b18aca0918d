-- One demo record; what it shows and what experts said about it stand in its attributes.
insert into anomaly.records (image_url, captured_at, attributes)
values (%(image_url)s, now() - %(age_s)s * interval '1 s', %(attributes)s)
