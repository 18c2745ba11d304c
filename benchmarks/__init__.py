"""What is claimed of visionsweep, measured. Each command is `python -m benchmarks.NAME`."""
