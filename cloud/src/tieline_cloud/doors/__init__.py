"""Bulk doors: deliveries of readings from systems that are no edges, each once under its key, all or nothing."""
