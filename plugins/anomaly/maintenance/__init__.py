"""MaintenanceStore of database and bucket, and the check of an installation.

May import `connections` and everything below it.

Public: `retention`, `orphans`, `doctor`.
"""
