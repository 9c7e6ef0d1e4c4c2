"""Tests of the WSGI side of a request and its response."""
