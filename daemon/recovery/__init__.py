"""A damaged, lost or full disk: what is kept beside the database, and how the device comes back from it."""
