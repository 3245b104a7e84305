"""The live lane's codec: Sparkplug B 3.0 payloads, births with aliases, sequence numbers and host state."""
