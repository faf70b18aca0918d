"""HTTP connections that are safe to point at URLs from data, and bounded in time.

Built on the connection pools of requests and urllib3. May import `anomaly.errors` alone.

Public: `session` (PooledSession, read_body, hide_query_strings, REQUEST_ERRORS), `guard` (is_allowed).
"""
