"""What to do about errors of connections."""

from __future__ import annotations

# Parts of the messages of gRPC. The first one that a message contains decides.
_REMEDIES = (
    ("WRONG_VERSION_NUMBER", "Connect without TLS, which the server does not use."),
    ("CERTIFICATE_VERIFY_FAILED", "Set ca_file to the authority of the server's certificate."),
    ("Unwrap failed", "Set cert_file and key_file if the server requires a client certificate."),
    ("Socket closed", "Use the address of gRPC, with TLS if the server requires it."),
    ("Failed parsing HTTP/2", "Use the address of gRPC, not that of another protocol."),
    ("http2 header with status", "Use the address of gRPC, not that of another protocol."),
    ("Connection refused", "Check the address, and that the server runs."),
    ("Domain name not found", "Check the name of the server."),
)


def connection_remedy(message: str) -> str:
    """Returns the remedy for a message of gRPC, or an empty text."""
    return next((remedy for part, remedy in _REMEDIES if part in message), "")
