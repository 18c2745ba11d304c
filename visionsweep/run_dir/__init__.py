"""A run's directory: what its files hold, and how they are read, locked and repaired."""
