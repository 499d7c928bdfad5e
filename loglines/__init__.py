"""What the services of device and server tell their system in the same way: the lines of their logs, and to systemd how they are. Nothing of ours is imported but `domain`."""
