"""`ask_many`: any number of inputs over `AskStream`, with a bounded number in flight.

`Window` is the state, without input and output. `sync_run` drives it with threads, `async_run` with
tasks. Each has three parts: one reads inputs, one sends requests, one receives responses.
"""
