"""Prediction on images that are not of the training size."""
