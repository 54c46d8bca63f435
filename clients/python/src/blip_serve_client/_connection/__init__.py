"""Connections to servers: addresses, channel options, credentials, methods."""
