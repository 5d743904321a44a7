"""Semantic segmentation in JAX/Flax for people who do research with it."""

__version__ = "0.1.0"
