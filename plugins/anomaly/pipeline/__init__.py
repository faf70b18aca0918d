"""The way of a record through a task, and the beginning and end of a run.

Each record is a coroutine: `worker.Worker` fetches its image, finds or asks for an answer, archives both, commits, and decides how the
record ends. Images, detector, bucket and database are protocols (`parts`), so the package runs without Airflow. May import `db`, `images`,
`detectors`, `archive`, `models`, `metrics`, `settings`, `backoff` and `errors`.

Public: `drain` (Pipeline), `parts` (Parts), `lease` (LeaseRenewer), `runs` (claim, report, judge).
"""
