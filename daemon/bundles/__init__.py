"""Sync by stick: what this device gives and what it takes."""
