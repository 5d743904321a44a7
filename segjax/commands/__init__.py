"""What `python -m segjax VERB` runs: one file, one function for each verb."""
