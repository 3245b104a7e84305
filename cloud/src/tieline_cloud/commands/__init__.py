"""The command line of the hub: what can be said (parser), done here (local), and asked of a running hub (remote)."""
