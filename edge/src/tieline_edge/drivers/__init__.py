"""Drivers: one protocol a folder, one catalogue entry a device model, all behind the capabilities of this room."""
