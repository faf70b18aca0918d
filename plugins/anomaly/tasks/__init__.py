"""The bodies of Airflow's tasks.

They turn Airflow's context into a run and its connections into clients, and call `pipeline` and `maintenance`. May import everything;
only the DAGs import this package.

Public: `detection` (claim, process, report), `maintenance` (one function for each task of the maintenance DAG).
"""
