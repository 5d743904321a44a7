"""Encoders, decoders and the table of models (Flax linen)."""
