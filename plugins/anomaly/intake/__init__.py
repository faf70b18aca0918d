"""Adds records: from rows, files, buckets and queries. Rows that are known already are skipped.

Public: `adding` (add), `readers` (read_csv, read_addresses, read_bucket),
`connected` (enqueue).
"""
