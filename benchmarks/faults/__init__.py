"""What clients say of every fault in ``tests/faults/cases.py``."""
