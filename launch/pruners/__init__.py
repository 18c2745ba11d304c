"""Which trials end early: the pruners by name, and visionsweep's own."""
