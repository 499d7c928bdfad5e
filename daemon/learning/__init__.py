"""The decision engine over what this device has stored."""
