"""A report as PDF: its page, set by the page's own print style sheet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from primis.errors import PrimisError

_EPOCH = "SOURCE_DATE_EPOCH"


class PdfUnavailable(PrimisError):
    """The library that makes a PDF, or a library of the system that it needs, is not installed."""


def render(html: str) -> bytes:
    """The page as PDF; the same bytes for the same page. Raises PdfUnavailable."""
    try:
        import weasyprint
    except ModuleNotFoundError:
        raise PdfUnavailable(
            "report.pdf was not made: it needs WeasyPrint, pip install 'primis[evaluate]'"
        ) from None
    except OSError:  # its own message runs over ten lines
        raise PdfUnavailable(
            "report.pdf was not made: it needs the system's Pango, on Debian apt-get install "
            "libpango-1.0-0 libpangoft2-1.0-0, on macOS brew install pango"
        ) from None
    from weasyprint.text.fonts import FontConfiguration
    from weasyprint.urls import URLFetcher

    fonts = FontConfiguration()
    fetcher = URLFetcher(allowed_protocols=("data", "file"))
    sheet = weasyprint.CSS(string=_faces(), font_config=fonts, url_fetcher=fetcher)
    document = weasyprint.HTML(string=html, url_fetcher=URLFetcher(allowed_protocols=("data",)))
    with _one_moment():
        return bytes(document.write_pdf(stylesheets=[sheet], font_config=fonts))


@contextmanager
def _one_moment() -> Iterator[None]:
    """fontTools, which cuts the fonts down where HarfBuzz cannot, writes the time into them."""
    before = os.environ.get(_EPOCH)
    os.environ[_EPOCH] = before or "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_EPOCH]


def _faces() -> str:
    """DejaVu Sans, as matplotlib brings it: it has every sign in use, and is there on every
    machine.
    """
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    files = {"normal": folder / "DejaVuSans.ttf", "bold": folder / "DejaVuSans-Bold.ttf"}
    face = '@font-face {{ font-family: "Report"; font-weight: {}; src: url({}); }}'
    faces = (face.format(weight, file.as_uri()) for weight, file in files.items())
    return "\n".join([*faces, 'body { font-family: "Report", sans-serif; }'])
