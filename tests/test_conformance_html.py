# The page for browsers: whole, safe, with nothing from outside; each byte marked by its field; tried in a browser.
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reports import NASTY, REPORT, RESULTS

from vfio_user_conformance.report import html
from vfio_user_conformance.report.hexview import fields, message
from vfio_user_conformance.verdict import Report
from vfio_user_proto.craft import craft
from vfio_user_proto.messages import Command, DmaMapRequest, VersionRequest

VOID = ("meta", "input", "br")
# The findings of REPORT come first, then those that are known or of no weight.
AS_SHOWN = tuple(RESULTS[number] for number in (1, 5, 2, 3, 0, 4))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(content: str) -> Page:
    page = Page()
    page.feed(content)
    return page


def test_the_page_is_whole_needs_nothing_from_outside_and_escapes() -> None:
    content = html.render(REPORT)
    page = parsed(content)

    assert page.open == []
    assert "<script>alert" not in content
    assert "http" not in content.replace("http-equiv", "")
    assert not any({"src", "srcset"} & attributes.keys() for _, attributes in page.tags)
    content.encode()
    assert "424242" in html.render(Report("t", "", False, RESULTS, 1.0, seed=424242))


def test_each_case_has_a_row_and_a_page_of_its_own() -> None:
    page = parsed(html.render(REPORT))

    idents = [result.ident for result in RESULTS]
    assert [attributes["id"] for tag, attributes in page.tags if tag == "article"] == idents
    rows = [attributes for tag, attributes in page.tags if tag == "tr" and "data-case" in attributes]
    assert [each["data-case"] for each in rows] == [result.ident for result in AS_SHOWN]
    assert [each["data-outcome"] for each in rows] == [str(result.outcome) for result in AS_SHOWN]
    targets = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert {f"#{ident}" for ident in idents} <= targets


def test_the_bytes_of_a_field_are_where_the_table_says() -> None:
    data = craft(Command.DMA_MAP, DmaMapRequest(address=0x10000, size=0x2000), message_id=0x102)
    title, found = fields(data)

    assert title == "VFIO_USER_DMA_MAP command"
    assert [(each.offset, each.size, each.name) for each in found[:3]] == [
        (0, 2, "message_id"),
        (2, 2, "command"),
        (4, 4, "message_size"),
    ]
    assert sum(each.size for each in found) == len(data)
    assert found[-1][:4] == (40, 8, "size", "8192 (0x2000)")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02\x03",
        craft(Command.VERSION, VersionRequest(version_minor=2, version_data=b'{"capabilities": {}}\0')),
        craft(Command.DMA_MAP, DmaMapRequest())[:-5],
        craft(Command.DMA_MAP, DmaMapRequest()) + bytes(40),
        bytes(range(256)) * 3,
    ],
    ids=["nothing", "no message", "JSON", "cut", "trailing", "noise"],
)
def test_each_byte_belongs_to_one_field_whatever_came(data: bytes) -> None:
    _, found = fields(data)
    covered = [at for each in found if each.offset is not None for at in range(each.offset, each.offset + each.size)]

    assert covered == list(range(len(data)))


def entry(data: bytes) -> dict[str, object]:
    return {"from": "client", "fds": [], "hex": data.hex(), "t": 0.001}


def test_bytes_and_fields_bear_the_same_mark() -> None:
    shown = message(entry(craft(Command.DMA_MAP, DmaMapRequest(size=0x2000), message_id=0x102)))

    assert '<b class="c0" data-f="0">02 01</b>' in shown
    assert '<tr data-f="0"><td>0x00</td><td>2</td><td class="name"><span class="c0">message_id</span>' in shown


def test_a_long_message_is_cut_and_says_so() -> None:
    shown = message(entry(craft(Command.DMA_MAP, DmaMapRequest()) + bytes(100_000)))

    assert "… and 99024 bytes more" in shown
    assert len(shown) < 20_000


def test_a_flood_of_messages_is_cut_and_says_so() -> None:
    messages = tuple(entry(number.to_bytes(4, "big")) for number in range(1000))
    right, wrong = (html.render(replace(REPORT, results=(replace(each, messages=messages),))) for each in RESULTS[:2])

    assert [page.count("from the client: no message") for page in (right, wrong)] == [12, 40]
    assert "… 988 messages more" in right
    assert "… 960 messages more" in wrong


def test_what_went_with_a_message_is_told() -> None:
    assert "from the client: no message, 14 bytes, with memfd, cut at 4" in html.render(REPORT)


# What somebody does with the page, and what is to be seen then: added to a copy of it.
TRIAL = """<script>
const seen = [];
const shown = (what) => [...document.querySelectorAll(what)].filter((each) => each.offsetHeight);
const visible = () => shown("#cases tbody tr").map((row) => row.dataset.case).join(" ");
const note = (what) => seen.push(what);
note(visible());
filter.value = "header.ECHO two"; filter.dispatchEvent(new Event("input")); note(visible());
filter.value = ""; filter.dispatchEvent(new Event("input"));
document.querySelector("button[value=deviation]").click(); note(visible());
document.querySelector("button[value='']").click();
onhashchange = () => {
  const open = shown("article").map((each) => each.id).join(" ");
  note(`${open || "list"} ${document.getElementById("index").offsetHeight > 0}`);
  if (seen.length === 4) {
    const byte = document.querySelector("article.current b[data-f]");
    byte.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
    note(document.querySelectorAll(".lit").length);
    document.querySelector("article.current a[rel=next]").click();
  } else if (seen.length === 6) location.hash = "";
  else document.body.dataset.seen = JSON.stringify(seen);
};
location.hash = "#dma-map/two";
</script>
"""


def test_a_browser_filters_opens_pages_and_lights_up_bytes(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium here to try the page in")
    path = tmp_path / "report.html"
    path.write_text(html.render(REPORT).replace("</body>", f"{TRIAL}</body>"), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search('data-seen="([^"]*)"', done.stdout)
    assert found is not None, done.stdout[-2000:]
    every = " ".join(result.ident for result in AS_SHOWN)
    assert found[1].replace("&quot;", '"') == (
        f'["{every}","dma-map/two","dma-map/four","dma-map/two false",3,"dma-map/six false","list true"]'
    )
    assert NASTY not in done.stdout
