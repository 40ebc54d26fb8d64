"""The corpus: what is committed is what the schemas and the hand-written list give, and all of it can be written out."""

from pathlib import Path

import pytest

from vfio_user_fuzz import corpus
from vfio_user_proto import wire
from vfio_user_proto.cli import main
from vfio_user_proto.messages import FEATURES, REPLIES, REQUESTS

COMMITTED = Path(__file__).resolve().parents[1] / "fuzz" / "corpus"


def test_the_committed_corpus_is_the_one_that_would_be_written() -> None:
    """File by file; "vfio-user fuzz corpus fuzz/corpus" renews it."""
    committed = {path.stem: path.read_bytes() for path in COMMITTED.iterdir()}

    assert corpus.corpus() == committed


def test_every_command_reply_and_feature_is_there() -> None:
    """With a message that decodes and leaves nothing over."""
    messages = [wire.decode(data) for name, data in corpus.corpus().items() if "-full" in name or "-empty" in name]
    kinds = {(message.header.command, message.is_reply) for message in messages}
    features = [name for name in corpus.corpus() if name.startswith("device-feature-") and "command" not in name]

    assert not [message for message in messages if message.trailing]
    assert {(command, False) for command, record in REQUESTS.items() if record} <= kinds
    assert {(command, True) for command, record in REPLIES.items() if record} <= kinds
    assert len(FEATURES) <= len(features)


def test_the_corpus_is_written_one_file_per_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And once more over itself."""
    for _ in range(2):
        assert main(["fuzz", "corpus", str(tmp_path / "new")]) == 0

    assert {f"{name}.bin" for name in corpus.corpus()} == {path.name for path in (tmp_path / "new").iterdir()}
    assert f"{len(corpus.corpus())} messages" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, no traceback."""
    (tmp_path / "file").write_text("")

    assert main(["fuzz", "corpus", str(tmp_path / "file")]) == 2
    assert "file: File exists" in capsys.readouterr().err
