"""The protocols in which clients can ask the gateway."""
