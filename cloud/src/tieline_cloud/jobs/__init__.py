"""Jobs: long work with progress, in a spawn pool beside ingest."""
