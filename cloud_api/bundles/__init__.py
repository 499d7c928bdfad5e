"""Sync by stick at the school: what comes up in a bundle, and what goes back."""
