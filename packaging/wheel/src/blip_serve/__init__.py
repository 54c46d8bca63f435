"""The program blip-serve, packed for pip. It has no Python interface: see blip-serve-client."""
