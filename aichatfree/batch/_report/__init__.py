"""A report of the runs of a batch, made from its journal: one HTML page with charts."""

from .page import Report

__all__ = ["Report"]
