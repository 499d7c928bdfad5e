"""What stands around the application: processes, TLS, proxies, the log, figures."""
