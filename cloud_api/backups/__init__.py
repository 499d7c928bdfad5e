"""Backups of the database: made, restored, and what no restored backup may undo."""
