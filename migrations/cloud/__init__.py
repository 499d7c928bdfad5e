"""Migrations of the school's PostgreSQL database. Shipped files are never edited."""
