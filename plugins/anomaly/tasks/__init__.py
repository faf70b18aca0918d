"""The bodies of Airflow's tasks.

They turn Airflow's context into a run and its connections into clients, and call `pipeline` and `maintenance`.
Nothing else imports this package.

Public: `detection` (claim, process, report, requeue), `maintenance`.
"""
