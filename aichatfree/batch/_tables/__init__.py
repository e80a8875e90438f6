"""Rows as the input of a batch: read from files and frames, and made into prompts."""
