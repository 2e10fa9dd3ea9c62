"""What a cluster says of itself, of topics, and of what this user may do with them; nothing is written."""
