"""What is wrong with a device, and what helps: `carrel doctor`. Each check looks, and changes nothing."""
