"""Listening sockets: addresses as users write them, opening, and closing without a reset."""
