"""The reports of several targets side by side: a row per case, a column per target."""

from dataclasses import dataclass

from vfio_user_conformance.report import markdown
from vfio_user_conformance.report.page import button, clean, page, table
from vfio_user_conformance.stored import Stored
from vfio_user_conformance.verdict import FINDINGS, Outcome
from vfio_user_conformance.words import plural

_NOT_RUN = "-"


@dataclass(frozen=True)
class Matrix:
    """``rows`` has for each case how it ended, target by target: "-" where it was not run."""

    reports: tuple[Stored, ...]
    rows: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, reports: list[Stored]) -> "Matrix":
        """Every case that one of the reports has, in the order in which they have them."""
        idents = dict.fromkeys(ident for report in reports for ident in report.results)
        return cls(
            tuple(reports),
            {ident: tuple(str(each.results.get(ident, _NOT_RUN)) for each in reports) for ident in idents},
        )

    @property
    def notable(self) -> dict[str, tuple[str, ...]]:
        """The rows in which targets differ, or one has a finding, known or not."""
        found = {ident for each in self.reports for ident, entry in each.results.items() if entry.outcome in FINDINGS}
        return {ident: row for ident, row in self.rows.items() if ident in found or len({*row} - {_NOT_RUN}) > 1}

    @property
    def names(self) -> list[str]:
        """Numbers for the columns: targets have names that are too long."""
        return [f"[{number}]" for number in range(1, len(self.reports) + 1)]

    @property
    def legend(self) -> list[str]:
        """What each column is."""
        return [
            f"{name} {report.about}: {report.verdict}" for name, report in zip(self.names, self.reports, strict=True)
        ]

    @property
    def totals(self) -> list[tuple[str, ...]]:
        """How many cases ended in each class, target by target."""
        return [
            (outcome, *(str(report.summary.get(outcome, 0)) for report in self.reports))
            for outcome in Outcome
            if any(outcome in report.summary for report in self.reports)
        ]

    @property
    def unshown(self) -> str:
        """How much ``notable`` leaves out."""
        return f"{plural(len(self.rows) - len(self.notable), 'case')} without a finding and alike in all"


def as_text(matrix: Matrix) -> str:
    """For terminals: the notable rows, and the totals."""
    rows = [("", *matrix.names), *((ident, *row) for ident, row in matrix.notable.items())]
    body = [*_aligned(rows), "", *_aligned(matrix.totals)]
    return "\n".join([*matrix.legend, "", *body, "", matrix.unshown]) + "\n"


def as_markdown(matrix: Matrix) -> str:
    """For a pull request or a page of documentation: the same."""
    legend = "\n".join(f"- {markdown.text(line)}" for line in matrix.legend)
    names = [markdown.text(name) for name in matrix.names]
    rows = ((ident, *row) for ident, row in matrix.notable.items())
    parts = [legend, markdown.table(("case", *names), rows), markdown.table(("class", *names), matrix.totals)]
    return "\n\n".join([*parts, matrix.unshown]) + "\n"


def as_html(matrix: Matrix) -> str:
    """For browsers: every row, with a filter."""
    legend = "".join(f'<p class="about">{clean(line)}</p>\n' for line in matrix.legend)
    buttons = [button("", len(matrix.rows), "all cases")]
    counts = {
        each: sum(any(cell.split()[0] == each for cell in row) for row in matrix.rows.values()) for each in Outcome
    }
    buttons += [button(outcome, count, outcome.meaning) for outcome, count in counts.items() if count]
    rows = []
    for ident, row in matrix.rows.items():
        classes = " ".join(dict.fromkeys(cell.split()[0] for cell in row))
        cells = "".join(f'<td class="class {cell.split()[0]}">{clean(cell)}</td>' for cell in row)
        rows.append(
            f'<tr data-case="{clean(ident)}" data-outcome="{classes}"><td class="name">{clean(ident)}</td>{cells}</tr>'
        )
    return page(
        f"vfio-user conformance of {plural(len(matrix.reports), 'target')}",
        legend,
        "\n".join(buttons),
        table("cases", ("case", *matrix.names), rows),
    )


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
