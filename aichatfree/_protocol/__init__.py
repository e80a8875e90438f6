"""The signed chat protocol as pure functions and data: no I/O."""
