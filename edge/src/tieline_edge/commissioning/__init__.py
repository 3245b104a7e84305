"""Commissioning: finding devices, checking them one by one, tags, and taking a new configuration while the edge runs."""
