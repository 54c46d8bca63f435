"""Trains the demo models: data, networks, evaluation, model folders and one module for each task."""
