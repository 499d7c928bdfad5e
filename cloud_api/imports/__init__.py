"""Course and roster from files of CSV: read, planned, written whole or not at all."""
