"""Class figures over what the school has stored: kept up behind the feed, one row a student; read for teachers."""
