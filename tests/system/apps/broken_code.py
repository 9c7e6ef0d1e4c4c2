"""An application that raises while it is imported."""

app = 1 / 0
