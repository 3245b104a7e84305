"""tieline_cloud."""
