"""Postgres, S3, image host and detector as child processes of `bin/run` and of the tests."""
