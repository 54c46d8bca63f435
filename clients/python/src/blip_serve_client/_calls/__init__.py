"""One call with its retries: state without input and output, and a sync and an async driver."""
