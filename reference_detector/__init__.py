"""A small, real anomaly detector behind HTTP: what `bin/run` and the tests ask when no other detector is given."""
