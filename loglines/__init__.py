"""What the logs of device and server have in common, line by line. Nothing of ours is imported but `domain`."""
