"""The fleet: which edges there are, what they say they run, when they were last heard."""
