"""The decision engine over what the school has stored."""
