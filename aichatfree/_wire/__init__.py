"""Requests on the wire: connections, time limits, and responses as chunks of bytes."""
