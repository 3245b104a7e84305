"""Ingest: both lanes in, hello and acknowledgement out."""
