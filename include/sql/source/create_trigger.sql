create or replace trigger {trigger}
    after insert or update of {image_url}, {captured_at} on {table}
    for each row execute function {function}()
