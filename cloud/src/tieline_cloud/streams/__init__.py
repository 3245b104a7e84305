"""Kafka, for those who run it: readings from topics into the ledger, and committed readings out of it. Optional."""
