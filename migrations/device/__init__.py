"""Migrations of the device's SQLite file. Shipped files are never edited."""
