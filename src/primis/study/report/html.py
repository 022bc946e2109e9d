"""A report as one page that needs nothing else: no network, no script, pictures inside."""

from __future__ import annotations

import base64

from primis.study.report.document import Document, joined, lowered, stated


def page(document: Document) -> str:
    """The page. Every text is escaped."""
    import jinja2
    import markupsafe

    packages = ("primis.study.report", "primis.audit")  # the style sheet is the audit's
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in packages])
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "indexed": lambda text: markupsafe.Markup(lowered(str(markupsafe.escape(text)))),
        "joined": joined,
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    return environment.get_template("report.html").render(document=document, stated=stated).lstrip()
