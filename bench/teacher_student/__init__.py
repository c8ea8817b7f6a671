"""Teacher and student (§2.5, §2.6): two commands, a chain of two neurons and a network of five."""
