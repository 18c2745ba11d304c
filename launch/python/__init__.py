"""A search from Python: `visionsweep.search` starts the command in a process of its own, and hands back a handle."""
