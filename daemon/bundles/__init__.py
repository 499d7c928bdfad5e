"""Sync by stick: what this device gives, what it takes, and with which keys."""
