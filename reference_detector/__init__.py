"""A small anomaly detector behind HTTP, which `bin/run` and the tests use by default."""
