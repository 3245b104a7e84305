"""What edge and hub say to each other: frozen, versioned, one file a family.

A message is a pydantic model that forbids unknown keys and refuses NaN. Its bytes are its JSON; the models travel, the
bytes are signed or framed elsewhere.
"""
