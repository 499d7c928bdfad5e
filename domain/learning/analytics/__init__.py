"""Class figures: what is kept of one student's answers, and what a class's teachers are told from it. Pure; the same on a device and on the server."""
