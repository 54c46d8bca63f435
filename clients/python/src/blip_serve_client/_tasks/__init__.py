"""The tasks: requests for some of their items, and the results in responses."""
