"""What the pages for browsers share: one file, without anything from outside, with a filter over a table."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

_FOLDER = files("vfio_user_conformance.report")


def page(title: str, head: str, buttons: str, table: str, rest: str = "") -> str:
    """A page; all but the title is finished HTML. The rows of ``table`` have data-case and data-outcome to be filtered by."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{clean(title)}</title>
<style>
{style}</style>
</head>
<body>
<div id="index">
<h1>{clean(title)}</h1>
{head}
<div class="bar" role="search"><input id="filter" type="search" placeholder="filter by any words" aria-label="filter the cases">
{buttons}</div>
<p class="quiet" id="count" aria-live="polite"></p>
{table}
</div>
{rest}
<script>
{script}</script>
</body>
</html>
"""


def table(ident: str, head: Sequence[str], rows: Iterable[str]) -> str:
    """A table with ``ident`` of finished rows."""
    titles = "".join(f'<th scope="col">{clean(title)}</th>' for title in head)
    body = "\n".join(rows)
    return f'<div class="wide"><table id="{ident}"><thead><tr>{titles}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def button(value: str, count: int, meaning: str) -> str:
    """A button that leaves the rows with this outcome; all of them for ""."""
    kind = f' class="{value}"' if value else ""
    return f'<button type="button" value="{value}"{kind} title="{clean(meaning)}">{value or "all"} {count}</button>'


def clean(text: str) -> str:
    """Text for HTML: escaped, and without what no page can hold."""
    shown = "".join(char if char >= " " or char in "\t\n" else "�" for char in text)
    return escape(shown.encode("utf-8", "replace").decode())
