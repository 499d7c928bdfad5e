"""The fleet page: what it says and shows."""
