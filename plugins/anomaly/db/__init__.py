"""The records database: a checked pool, the statements in `include/sql`, and one gateway class for each group of them.

Every SQL statement of the project runs through `client.Database`. May import `models`, `settings`, `backoff` and `errors`. psycopg,
SQLAlchemy and yoyo are imported only here and in `anomaly.connections`.

Public: `client` (Database, checked_pool), `record_store` (RecordStore), `quarantine` (Quarantine), `maintenance` (Upkeep),
`stats` (Measured), `detector_quota` (Fleet), `schema` (migrate), `sql_check`.
"""
