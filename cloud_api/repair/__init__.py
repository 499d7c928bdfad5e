"""What sync leaves to people: values that lost, operations that were refused."""
