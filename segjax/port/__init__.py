"""Public checkpoints as segjax parameters: one table for each source architecture."""
