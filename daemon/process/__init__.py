"""What the process of the daemon has to do with its machine: folder, log, service manager, memory."""
