"""The localhost API: its listener, the way of a request, what an endpoint is, and a module of endpoints per noun in `routes`."""
