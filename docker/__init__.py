"""What the containers are made of, and the small tools that belong to them."""
