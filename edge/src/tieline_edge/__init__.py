"""Tieline edge agent: reads, remembers, forecasts, follows plans and sheds load by itself."""

__version__ = "0.1.0"
