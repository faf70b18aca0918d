"""Maintenance of database and bucket, and the check of an installation.

May import `connections` and everything below it.

Public: `retention` (sweep_rows, sweep_bucket), `orphans` (unreferenced_objects, missing_objects), `doctor` (Doctor).
"""
