"""Backups of a device's database: made while the daemon works, kept for a time, and put back without losing what is unsent."""
