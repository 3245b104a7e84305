"""Simulated devices: each file names the public document it was written from."""
