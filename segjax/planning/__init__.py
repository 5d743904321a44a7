"""What a step will need on devices that need not be here, from the compiler."""
