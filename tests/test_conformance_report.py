# Reports: the contract for programs, valid XML, five lines for people, a page that escapes what it shows.
import json
from html.parser import HTMLParser
from xml.etree import ElementTree

from vfio_user_conformance.report import html, junit, text
from vfio_user_conformance.report import json as plain
from vfio_user_conformance.verdict import Outcome, Report, Result

NASTY = "<script>alert('x')</script>\x00\x1b & \ud800"
MESSAGE = {"from": "client", "fds": [{"kind": "memfd"}], "hex": "0100020010000000000000000000", "t": 0.001, "cuts": [4]}
RESULTS = (
    Result("dma-map/one", "dma-map.overlap", "s", "must", Outcome.PASS, "", 0.5),
    Result(
        "dma-map/two",
        "dma-map.overlap",
        "s",
        "must",
        Outcome.FAIL,
        NASTY,
        stimulus=NASTY,
        expected="an error reply",
        came="a reply",
        broken="header.echo",
        messages=(MESSAGE,),
        stderr=NASTY,
    ),
    Result("dma-map/three", "dma-map.overlap", "s", "must", Outcome.CRASH, "died", known="a bug"),
    Result("dma-map/four", "dma-map.adjacent", "s", "should", Outcome.DEVIATION, "odd"),
    Result("dma-map/five", "dma-map.adjacent", "s", "should", Outcome.NOT_APPLICABLE, "no region"),
    Result("dma-map/six", "dma-map.adjacent", "s", "should", Outcome.ERROR, "ours"),
)
REPORT = Report("prog {socket}", "mine", False, RESULTS, 1.25, "", ("x: no such case",))


def test_json_keeps_the_contract() -> None:
    content = json.loads(plain.render(REPORT))

    assert {"suite", "spec", "target", "summary", "results"} <= content.keys()
    assert content["summary"] == {"pass": 1, "fail": 1, "deviation": 1, "not-applicable": 1, "crash": 1, "error": 1}
    wanted = {"id", "section", "requirement", "level", "outcome", "reason", "duration_s", "evidence"}
    assert all(wanted <= result.keys() for result in content["results"])
    assert content["results"][1]["reason"] == NASTY
    assert (content["status"], content["stale"]) == (1, ["x: no such case"])


def test_junit_counts_what_it_holds() -> None:
    suite = ElementTree.fromstring(junit.render(REPORT)).find("testsuite")

    assert suite is not None
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 6, "failures": 1, "errors": 1, "skipped": 2}
    for kind, wanted in (("failure", 1), ("error", 1), ("skipped", 2)):
        assert len(suite.findall(f"testcase/{kind}")) == wanted
    assert "header.echo" in (suite.findtext("testcase/failure") or "")


def test_text_has_five_lines_for_each_finding() -> None:
    lines = text.render(REPORT).splitlines()
    first = lines.index(next(line for line in lines if line.startswith("fail dma-map/two")))

    assert [line.split()[0] for line in lines[first + 1 : first + 6]] == ["must", "sent", "expected", "came", "again"]
    assert lines[first + 5].endswith("vfio-user conformance server --select dma-map/two")
    assert "deviation dma-map/four: odd" in lines
    assert not any("three" in line for line in lines)
    assert lines[-2:] == [
        "6 cases in 1.2 s: 1 pass, 1 fail, 1 deviation, 1 not-applicable, 1 crash, 1 error",
        "not conforming: 2 findings, 1 wrong in the list of known findings; 1 known",
    ]


def test_text_is_quiet_when_all_is_well() -> None:
    good = Report("t", "", False, RESULTS[:1], 0.5)

    assert text.render(good).splitlines()[1:] == ["", "1 case in 0.5 s: 1 pass", "conforming"]
    assert "\033[32mconforming" in text.render(good, color=True)


def test_text_names_the_evidence_and_cuts_what_is_long() -> None:
    result = Result("a/b", "dma-map.overlap", "", "must", Outcome.FAIL, "x" * 9999, evidence="dir/a.b.jsonl")
    told = text.render(Report("t", "", False, (result,), 0.0))

    assert "vfio-user conformance replay dir/a.b.jsonl" in told
    assert max(map(len, told.splitlines())) < 500


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open.pop() != tag:
            assert self.open, tag


def test_the_page_is_whole_needs_nothing_from_outside_and_escapes() -> None:
    content = html.render(REPORT)
    page = Page()
    page.feed(content)

    assert page.open == []
    assert "<script>alert" not in content
    assert "http" not in content.replace("http-equiv", "")
    cases = [attributes for tag, attributes in page.tags if tag == "details"]
    assert [each["id"] for each in cases] == [result.ident for result in RESULTS]
    assert ["open" in each for each in cases] == [False, True, False, False, False, True]
    assert "from the client, with memfd, cut at 4" in content
