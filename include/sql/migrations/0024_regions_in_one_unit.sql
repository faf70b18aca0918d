-- depends: 0023_review_sample
-- The size and the media type of the judged image, and the unit of its regions: fractions of width and height from the top left. Results of
-- before keep their regions as the detector sent them; nothing says in which unit, so theirs stays null. No row is rewritten.
alter table anomaly.ai_results
    add column image_width_px   integer,
    add column image_height_px  integer,
    add column image_media_type text,
    add column regions_unit     text,
    add constraint ai_results_regions_unit_known check (regions_unit = 'fraction') not valid,
    add constraint ai_results_image_has_size check (image_width_px > 0 and image_height_px > 0) not valid;
