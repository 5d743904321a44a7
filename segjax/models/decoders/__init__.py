"""Decoders: from an encoder's features back to image resolution."""
