"""A report that has everything: each outcome, what must be escaped, a known finding, a wrong entry of the list."""

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
