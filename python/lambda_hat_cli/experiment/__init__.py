"""What a user asks for: the experiment file, its expansion into rows, and their identities."""
