"""Tieline core: the vocabulary, messages and codecs that edge and hub share. No I/O."""

__version__ = "0.1.0"
