"""What containers are made of, read and held to the code; running it is tests/image."""
