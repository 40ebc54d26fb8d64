"""The report for browsers: one page without anything from outside, a fold per case with the messages decoded."""

from html import escape
from typing import Any

from vfio_user_conformance.about import SPEC, SUITE
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.verdict import Report, Result
from vfio_user_conformance.words import plural
from vfio_user_proto.trace import describe

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; color: #222; }}
pre {{ background: #f6f6f4; padding: .6em; overflow-x: auto; font-size: 13px; }}
summary {{ cursor: pointer; padding: .15em 0; }}
details {{ border-bottom: 1px solid #e4e4e0; }}
details > div {{ margin: .3em 0 1em 1.2em; }}
dt {{ font-weight: 600; }} dd {{ margin: 0 0 .4em 1.2em; overflow-wrap: anywhere; }}
.class {{ display: inline-block; min-width: 8.5em; font-weight: 600; color: #667; }}
.pass, .ok {{ color: #17703a; }} .info, .erratum {{ color: #35639c; }} .deviation {{ color: #9a6500; }}
.fail, .crash, .hang, .desync, .not-reached, .error, .bad {{ color: #b3221d; }}
.bar button {{ font: inherit; margin: 0 .3em .3em 0; }}
input {{ font: inherit; width: 22em; max-width: 100%; }}
[hidden] {{ display: none; }}
</style>
<h1>{title}</h1>
<p class="{mood}"><strong>{verdict}</strong></p>
<p>{about}</p>
{stale}
<p class="bar"><input id="filter" type="search" placeholder="filter by name, requirement or text" aria-label="filter">
{buttons}</p>
<main>
{cases}
</main>
<script>
const filter = document.getElementById("filter"), cases = [...document.querySelectorAll("details")];
let wanted = "";
function show() {{
  const text = filter.value.toLowerCase();
  for (const one of cases)
    one.hidden = (wanted && one.dataset.outcome !== wanted) || !one.textContent.toLowerCase().includes(text);
}}
filter.addEventListener("input", show);
for (const button of document.querySelectorAll("button"))
  button.addEventListener("click", () => {{ wanted = button.value; show(); }});
</script>
</html>
"""


def render(report: Report) -> str:
    """The page."""
    cases = f"{plural(len(report.results), 'case')} in {report.seconds:.1f} s"
    about = f"{SUITE}, protocol {SPEC}, profile {report.profile or 'none'}, {cases}"
    buttons = [f'<button value="">all {len(report.results)}</button>']
    buttons += [
        f'<button value="{outcome}" class="{outcome}" title="{escape(outcome.meaning)}">{outcome} {count}</button>'
        for outcome, count in report.counts.items()
    ]
    return _PAGE.format(
        title=f"vfio-user conformance of {escape(report.target)}",
        mood="bad" if report.status else "ok",
        verdict=escape(report.verdict),
        about=escape(about),
        stale="\n".join(f'<p class="bad">known findings: {escape(line)}</p>' for line in report.stale),
        buttons="\n".join(buttons),
        cases="\n".join(_case(result, result.finding(report.strict)) for result in report.results),
    )


def _case(result: Result, opened: bool) -> str:
    requirement = REQUIREMENTS[result.broken or result.requirement]
    rows = [
        (f"Requirement {requirement.ident} ({requirement.level})", requirement.text),
        ("Sent", result.stimulus),
        ("Expected", result.expected),
        ("Came", result.came),
        ("Reason", result.reason),
        ("Known", result.known),
    ]
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows if text)
    stderr = f"<p>Standard error of the target</p><pre>{escape(result.stderr)}</pre>" if result.stderr else ""
    messages = "".join(map(_message, result.messages))
    known = " (known)" if result.known else ""
    return (
        f'<details id="{escape(result.ident)}" data-outcome="{result.outcome}"{" open" if opened else ""}>'
        f'<summary><span class="class {result.outcome}">{result.outcome}{known}</span> {escape(result.ident)}</summary>'
        f"<div><dl>{told}</dl>{messages}{stderr}</div></details>"
    )


def _message(entry: dict[str, Any]) -> str:
    fds = f", with {', '.join(fd['kind'] for fd in entry['fds'])}" if entry["fds"] else ""
    cuts = f", cut at {', '.join(map(str, entry['cuts']))}" if "cuts" in entry else ""
    title = f"{entry['t'] * 1000:.1f} ms, from the {entry['from']}{fds}{cuts}"
    return f"<p>{escape(title)}</p><pre>{escape(describe(bytes.fromhex(entry['hex'])))}</pre>"
