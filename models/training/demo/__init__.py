"""The training of the demo models."""
