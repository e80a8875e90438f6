"""Showing answers: on a terminal and in a notebook."""
