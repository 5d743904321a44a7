"""Why two scores of the same labels differ."""
