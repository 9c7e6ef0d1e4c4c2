"""Pages that read from the database and write to it."""

import time

from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render

from books.models import Book


def shelf(request: HttpRequest) -> HttpResponse:
    """List the books; a POST adds one and redirects, as Django's tutorial does."""
    if request.method == "POST":
        Book.objects.create(title=request.POST["title"])
        return redirect("shelf")
    return render(request, "shelf.html", {"books": Book.objects.order_by("pk")})


def feed(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the titles."""
    return StreamingHttpResponse(f"{book.title}\n" for book in Book.objects.order_by("pk"))


def upload(request: HttpRequest) -> FileResponse:
    """Tell the size of an uploaded file."""
    sizes = ",".join(str(file.size) for file in request.FILES.values())
    return FileResponse([sizes.encode()], content_type="text/plain")


def broken(request: HttpRequest) -> HttpResponse:
    """Fail as views do."""
    raise ValueError(f"broken view at {time.time()}")
