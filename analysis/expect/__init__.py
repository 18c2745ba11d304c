"""What to expect of a run's choice on new photos, and of its data's labels."""
