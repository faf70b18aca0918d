"""The records database: a checked pool, the statements in `include/sql`, and one store class for each group of statements.

All SQL of the project runs through `client.Database`. May import `models`, `settings`, `backoff` and `errors`. psycopg, SQLAlchemy and
yoyo are imported only here and in `anomaly.connections`.

Public: `pool` (open_pool, connector), `client` (Database), `record_store` (RecordStore), `answer_store` (AnswerStore), `quarantine`
(QuarantineStore), `maintenance` (MaintenanceStore), `stats` (StatsStore), `inspection` (InspectionStore), `detector_quota`
(DetectorQuotaStore), `statements` (Statements), `schema` (migrate, check_migrations), `sql_check` (check_statements), `contracts` (the
parameters and columns of each statement), `errors` (translating).
"""
