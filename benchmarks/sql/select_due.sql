select id, image_url from anomaly.records where status = 'pending' order by captured_at, id
