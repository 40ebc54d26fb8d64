"""Reads spec/errata.toml: which erratum accounts for which difference from the published document, and which mistake in it."""

from collections.abc import Mapping

from vfio_user_proto.errors import SpecError
from vfio_user_proto.specdoc.files import load, toml


def marks(path: str, key: str = "diff") -> Mapping[str, str]:
    """The id of the erratum for each mark in the lists ``diff``, see ``diff.Change.mark``; or in the lists ``lint``."""
    errata = toml(load(path), path).get("erratum", [])
    if not isinstance(errata, list) or not all(isinstance(erratum, dict) for erratum in errata):
        raise SpecError(path, 0, "errata are written [[erratum]]")
    found: dict[str, str] = {}
    for erratum in errata:
        ident, listed = erratum.get("id"), erratum.get(key, [])
        if not isinstance(ident, str) or not isinstance(listed, list):
            raise SpecError(path, 0, f"an erratum has an id, and {key} is a list; not so {ident!r}")
        for mark in listed:
            if found.setdefault(str(mark), ident) != ident:
                raise SpecError(path, 0, f"{mark!r} is claimed by {found[mark]} and by {ident}")
    return found
