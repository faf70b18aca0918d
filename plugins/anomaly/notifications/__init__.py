"""Notifications of people and other systems: by a signed webhook, and by any notifier of Airflow."""
