"""Tieline hub: ingest, store, forecast, plan, dispatch, API and operator console."""

__version__ = "0.1.0"
