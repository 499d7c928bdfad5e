"""The device page: whether the work on this device is safe, for whoever sits at it; and for a student who has signed in, plan and mastery."""
