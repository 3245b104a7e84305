"""The status page of a gateway: one self-contained document that works with the hub and the internet gone."""
