"""The load of ``make bench-control``: a field of lean Modbus servers with a log of its own, the edge's site, and a peer."""
