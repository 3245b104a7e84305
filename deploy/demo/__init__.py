"""The demo: one evening in the field, told by command lines that any user could type."""
