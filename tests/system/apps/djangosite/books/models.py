"""One table."""

from django.db import models


class Book(models.Model):
    """A book on the shelf."""

    title = models.CharField(max_length=200)
    read = models.BooleanField(default=False)

    def __str__(self) -> str:
        return str(self.title)
