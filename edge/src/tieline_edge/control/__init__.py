"""Control: claims in, one decision a device out, written, read back, measured and traced."""
