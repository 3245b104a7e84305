"""What the API answers. A number always stands with its unit, its time and its quality."""
