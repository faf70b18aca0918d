anomaly.add_source_row({source}, {key}, {image_url}::text, {captured_at}, {attributes}::jsonb, {again})
       from {rows} as source
      where btrim({image_url}::text) <> '' and {captured_at} >= '1900-01-01' and {captured_at} <= now() + interval '1 day'
        and {has_key} and octet_length({key}) <= 1000
        and {condition}
