"""Routes by noun, one file each; the table that binds them is in :mod:`tieline_cloud.api.app`."""
