"""The image and the compose stack under a real container engine: `make test-image`.

As root, on Debian with docker.io, docker-compose and debootstrap.  The engine is started here,
for this run alone, and everything it starts is gone with it.
"""
