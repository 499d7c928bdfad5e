"""What a school holds about one student: given out whole, or erased everywhere for good."""
