"""Runs Postgres, S3, an image host, a detector and Airflow as child processes, for `bin/run` and the tests. Not part of production."""
