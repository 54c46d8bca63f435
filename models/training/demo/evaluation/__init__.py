"""Measures a trained model with the `generate` and `forward` methods of `transformers`."""
