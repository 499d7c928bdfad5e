"""What is wrong with a school's server, and what helps: `carrel-cloud doctor`. Each check looks, and changes nothing."""
