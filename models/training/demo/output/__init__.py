"""Writes model folders, their metrics and their model cards."""
