"""Registers the plugin with Airflow."""

from __future__ import annotations

from anomaly.plugin import AnomalyPlugin

__all__ = ["AnomalyPlugin"]
