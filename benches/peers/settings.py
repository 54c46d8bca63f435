"""Settings of a peer, from environment variables with the same names for all peers."""

import os

MODEL = os.environ["PEER_MODEL"]
PORT = int(os.environ["PEER_PORT"])
BATCH = int(os.environ["PEER_BATCH"])
WAIT_MS = float(os.environ["PEER_WAIT_MS"])
WORKERS = int(os.environ["PEER_WORKERS"])
THREADS = int(os.environ["PEER_THREADS"])
