"""Pure array operations: arrays in, arrays out; no parameters, no Flax."""
