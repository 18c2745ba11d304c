"""What a run's records say, as tables and figures."""
