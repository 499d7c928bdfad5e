"""The decision engine: mastery, the next question, the study plan. Pure, and the same on both sides."""
