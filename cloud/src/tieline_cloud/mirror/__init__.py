"""Mirrors: copies of the ledger in time-series databases, replayed from it, never the place where data is acknowledged."""
