"""Parts of the ingest benchmark, :mod:`tests.bench.ingest`."""
