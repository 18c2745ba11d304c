"""What is tried next: the samplers by name, and visionsweep's own."""
