"""A small Django application: a list of books in the database, and its admin."""
