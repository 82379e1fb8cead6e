"""Training: the loop over epochs, records, saved runs and states."""
