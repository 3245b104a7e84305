"""Dispatch: signed desired states and commands out, reported states in."""
