"""The model's own proof: the reference server breaks no rule in any mode, and each rule finds the faults it names."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from vfio_user_conformance.model.catalogue import RULES
from vfio_user_conformance.model.explore import Run
from vfio_user_conformance.model.rule import PREFIX, Rule
from vfio_user_conformance.peer import Timing
from vfio_user_conformance.proof import MODES, Proof, Serving, bench
from vfio_user_conformance.verdict import Outcome, Result
from vfio_user_proto.errors import UsageError

# What chance begins from, moves against the right server in one mode, and moves within which a fault is to be found.
SEED, RIGHT, WRONG = 1, 500, 8000


def is_for_rules(pattern: str) -> bool:
    """Whether a pattern is about rules of the model, not about cases."""
    return pattern.startswith(PREFIX) or pattern == PREFIX.rstrip("/")


def select(patterns: Sequence[str]) -> list[Rule]:
    """The rules that one of the patterns about rules matches; all of them without any pattern. Raises UsageError."""
    chosen = list[Rule]() if patterns else list(RULES.values())
    for pattern in filter(is_for_rules, patterns):
        hits = [rule for ident, rule in RULES.items() if fnmatchcase(ident, pattern) or pattern == PREFIX.rstrip("/")]
        if not hits:
            raise UsageError(f"no rule matches {pattern!r}; there are {', '.join(RULES)}")
        chosen += [rule for rule in hits if rule not in chosen]
    return chosen


def prove(serving: Serving, rules: Sequence[Rule]) -> Iterator[Proof]:
    """Explore each fault that one of ``rules`` names until the rule is broken; before that, where these are all rules, the
    right server in every mode.
    """
    for mode in MODES if len(rules) == len(RULES) else ():
        run = Run(bench(serving(mode.options), Timing(), mode.respawn), SEED, RIGHT)
        yield from (
            Proof("", mode.name, result) for result in _done(run) if result.outcome is not Outcome.NOT_APPLICABLE
        )
    for rule in rules:
        for fault in rule.catches:
            run = Run(bench(serving(("--fault", fault))), SEED, WRONG, wanted=rule.ident)
            yield next(Proof(fault, "", result) for result in _done(run) if result.ident == rule.ident)


def _done(run: Run) -> list[Result]:
    """What a run comes to; one that was interrupted proves nothing."""
    results = run.run()
    if run.interrupts:
        raise KeyboardInterrupt
    return results
