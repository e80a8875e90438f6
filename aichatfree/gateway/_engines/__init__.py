"""The models that a gateway can get its answers from."""
