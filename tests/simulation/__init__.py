"""Deterministic simulation of a whole edge agent: its own code on a virtual clock, network, disk and field, from one seed."""
