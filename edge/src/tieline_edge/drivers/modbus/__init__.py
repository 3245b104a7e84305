"""Modbus TCP: plain registers and SunSpec models."""
