"""The REST API under /v1, routes by noun."""
