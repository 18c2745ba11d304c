"""The schema of a configuration, one file for each part."""
