"""tieline_edge."""
