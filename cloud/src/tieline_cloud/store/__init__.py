"""The store behind its ports: a ledger for data and watermark in one transaction, queries over what is kept."""
