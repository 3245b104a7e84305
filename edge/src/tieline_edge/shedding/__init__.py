"""Local shedding rules: pure functions from snapshot and memory to claims."""
