"""Manifests for Kubernetes, and what writes the one of them that is generated."""
