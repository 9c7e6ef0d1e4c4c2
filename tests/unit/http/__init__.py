"""Tests of bytes in, messages out."""
