"""The browser's viewer as Python serves it: on loopback for one person, or as files for a host."""
