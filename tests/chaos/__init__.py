"""Carrel's real processes, and everything that goes wrong with real processes: `make chaos`, and a small version of it in `make test`."""
