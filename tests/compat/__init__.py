"""Configuration files as people publish them for gunicorn, served by both servers."""
