"""What the gateway can answer from."""
