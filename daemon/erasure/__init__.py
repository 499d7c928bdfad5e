"""Erasing a student from this device, on the school's order."""
