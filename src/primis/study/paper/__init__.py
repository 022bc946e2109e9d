"""What the paper printed, and its tables beside this run's."""
