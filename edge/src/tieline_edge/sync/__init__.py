"""The two lanes to the hub, and the way back: durable uplink, live view, downlink."""
