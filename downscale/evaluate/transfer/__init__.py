"""May the emulator be trusted on this GCM: what differs, where the error comes from, and the light."""
