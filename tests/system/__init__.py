"""Tests that start the real server as its users do, and speak to it over real sockets."""
