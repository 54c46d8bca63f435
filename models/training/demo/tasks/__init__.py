"""One module for each task that train.py trains a model for."""
