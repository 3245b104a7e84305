"""What the field speaks: Modbus TCP, OPC-UA and MQTT."""
