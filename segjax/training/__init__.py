"""Training: state, steps, devices, checkpoints, the loop."""
