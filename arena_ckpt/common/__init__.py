"""What every part may use: units, dtypes, phases, properties, wording."""
