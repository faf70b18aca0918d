"""HTTP connections that are safe to point at addresses from data, and bounded in time.

Built on the connection pools of requests and urllib3. May import `anomaly.errors` alone.

Public: `session` (StraightSession), `guard` (pool_classes, is_allowed).
"""
