"""Tieline field simulator: an independent witness that shares no code with the product."""
