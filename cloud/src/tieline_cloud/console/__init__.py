"""The operator console: page shells and static files."""
