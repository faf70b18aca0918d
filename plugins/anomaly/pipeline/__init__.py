"""The way of a record through a task, and the beginning and end of a run.

Decides when to fetch, ask, archive and commit, and how each record ends. Sees images, detector, bucket and database as protocols and runs
without Airflow. May import `db`, `images`, `detectors`, `archive`, `models`, `metrics`, `settings`, `backoff` and `errors`.

Public: `worker` (Pipeline), `runs` (claim, report, judge).
"""
