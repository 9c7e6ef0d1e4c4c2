"""Tests: `unit` mirrors the packages, `system` runs real servers, `bench` measures them."""
