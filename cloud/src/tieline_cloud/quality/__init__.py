"""Data quality on arrival: validation, estimation and editing (VEE). Numbers received are never overwritten."""
