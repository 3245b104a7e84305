"""MQTT: devices that publish JSON to the field broker and wait for a receipt."""
