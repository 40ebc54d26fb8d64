# The catalogue: what a case may be, and how cases are chosen.
import pytest

from vfio_user_conformance.case import Case, catalogue, select
from vfio_user_conformance.expect import Reply
from vfio_user_conformance.requirements import REQUIREMENTS
from vfio_user_conformance.sending import Send
from vfio_user_proto.errors import UsageError
from vfio_user_proto.messages import DeviceGetInfoRequest

INFO = Send(DeviceGetInfoRequest())


def test_a_case_of_an_unknown_requirement_cannot_be_written() -> None:
    with pytest.raises(ValueError, match=r"no requirement get-info.pcy; is it get-info.pci\?"):
        Case(ident="x/y", requirement="get-info.pcy", stimulus=INFO, expect=Reply())


def test_a_case_of_an_unknown_hazard_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="fire is no hazard"):
        Case(ident="x/y", requirement="get-info.pci", stimulus=INFO, expect=Reply(), hazards=frozenset({"fire"}))


def test_words_go_with_a_script_and_only_with_one() -> None:
    with pytest.raises(ValueError, match="a script has words"):
        Case(ident="x/y", requirement="get-info.pci", stimulus="ask", expect="an answer")


def test_there_are_cases_enough_and_each_prints_itself() -> None:
    assert len(catalogue()) >= 150
    for ident, case in catalogue().items():
        section, _, name = ident.partition("/")
        assert section
        assert name
        assert case.stimulus_text
        assert case.expect_text
        assert "object at 0x" not in f"{case.as_dict()}"


def test_no_case_holds_a_server_to_a_requirement_of_clients() -> None:
    clients = {ident for ident, each in REQUIREMENTS.items() if each.side == "client"}
    # These also say what a server makes of a client that does not keep them.
    allowed = {"region-write.data", "write-multi.count", "feature.one-operation"}
    assert {case.requirement for case in catalogue().values()} & clients <= allowed


def test_all_cases_are_chosen_without_a_pattern() -> None:
    assert [case.ident for case in select([])] == list(catalogue())


@pytest.mark.parametrize("pattern", ["dma-unmap", "dma-unmap/", "dma-unmap/*", "dma-unmap.*"])
def test_a_pattern_is_a_beginning_a_shell_pattern_or_a_requirement(pattern: str) -> None:
    chosen = select([pattern])

    assert chosen
    assert all(case.ident.startswith("dma-unmap/") or case.requirement.startswith("dma-unmap.") for case in chosen)


def test_what_matches_nothing_is_an_error_with_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean dma-map/adjacent"):
        select(["dma-map/adjacnt"])
    with pytest.raises(UsageError, match="no case matches 'quux'"):
        select(["quux"])
