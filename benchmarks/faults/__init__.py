"""Which clients handle each fault of ``tests/faults/cases.py`` correctly."""
