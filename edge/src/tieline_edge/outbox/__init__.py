"""The outbox: what is recorded here is kept until the hub has committed it, and two weeks beyond."""
