"""Commands of `carrel` that have a module of their own, one for each noun."""
