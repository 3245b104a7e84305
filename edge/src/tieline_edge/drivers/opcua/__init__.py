"""OPC-UA: direct reads of nodes."""
