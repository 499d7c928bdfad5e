"""Who this device is: how it becomes a device of a school, stays this one, and ceases to be one."""
