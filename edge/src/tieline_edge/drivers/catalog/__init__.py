"""Catalogue: one YAML file a device model, no Python. See :mod:`tieline_edge.drivers.catalog.entry` for the form."""
