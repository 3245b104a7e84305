"""Benchmarks: each module runs by `make bench-NAME` and writes `var/bench/NAME.json` (figure, peer, ratio, versions)."""
