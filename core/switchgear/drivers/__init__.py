"""Drivers: the adapters to MQTT libraries. `base` is the port; everything else here does I/O."""
