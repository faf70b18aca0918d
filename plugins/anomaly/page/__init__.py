"""The page in Airflow: what waits, what was found, what failed, and the decisions of people. Also served alone by `anomaly page`.

Routes are thin: they read the query, call a store of `db`, and render a template. `access` decides who may do what, `services` holds
the connections, `app` joins them. Nothing here is imported before the first request, except `mount`.
"""
