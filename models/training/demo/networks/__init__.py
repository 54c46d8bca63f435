"""The networks of the demo models, their losses, and the optimizer."""
