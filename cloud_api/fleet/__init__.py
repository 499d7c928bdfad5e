"""What a school's devices say and do, for whoever looks after them."""
