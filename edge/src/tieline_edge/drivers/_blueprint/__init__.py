"""Blank form of a driver for a new protocol: copy the folder, fill it in, add one line to ``registry.DRIVERS`` and one test."""
