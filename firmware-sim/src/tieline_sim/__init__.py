"""tieline_sim."""
