"""What touches everything: a reset, and another client."""

from dataclasses import dataclass

from vfio_user_conformance.cases.feature import GET, feature, state
from vfio_user_conformance.checks import AfterCheck, Released
from vfio_user_conformance.expect import Is, NoReply, Reply
from vfio_user_conformance.facts import Facts
from vfio_user_conformance.model.irqs import signals
from vfio_user_conformance.model.rule import SILENT_TEXT, Move, Plan, Rule, Turn, accepted
from vfio_user_conformance.model.world import S, World, reconnected, reset
from vfio_user_conformance.needs import RESETTABLE
from vfio_user_conformance.sending import Send
from vfio_user_conformance.steps import Reconnect
from vfio_user_proto.messages import Command, DeviceFeature

RESET = Rule(
    "reset",
    "get-info.reset",
    "a device that says so can be reset",
    (RESETTABLE,),
    frozenset({"reset"}),
    ("reset-offered-and-refused",),
)
RECOVERS = Rule(
    "reset-recovers",
    "mig-state.reset-recovers",
    "a reset leads out of ERROR",
    (RESETTABLE,),
    frozenset({"reset", "migration"}),
    ("mig-state-error-kept-by-reset",),
)
_IN_RUNNING = Reply(fds=0, data=Is("of RUNNING", lambda data: data[:4] == state(S.RUNNING)[:4]))
LEFT = Rule(
    "reconnect",
    "disconnect.unmap-all",
    "the next client is served, and nothing is left of the mappings of the one before",
    catches=("memory-outlives-client",),
)
RULES = (RESET, RECOVERS, LEFT)


@dataclass(frozen=True)
class Reset(Move):
    """Reset the device; ``silent`` wants no reply."""

    silent: bool = False

    def plan(self, world: World, facts: Facts) -> Plan:
        silent = self.silent and world.working
        clear = world.working or world.state is S.ERROR
        wish = NoReply() if silent else Reply(fds=0) if clear else SILENT_TEXT
        rule = RECOVERS if world.state is S.ERROR else RESET
        seen = yield Turn(rule, (Send(Command.DEVICE_RESET, no_reply=silent),), (wish,))
        if not silent and not accepted(seen):
            return world
        after = reset(world)
        if rule is RECOVERS:
            yield Turn(RECOVERS, (feature(DeviceFeature.MIG_DEVICE_STATE, GET, argsz=16),), (_IN_RUNNING,))
        yield signals(world, after, -1, (), done=False)
        return after

    def __str__(self) -> str:
        return f"reset the device{', no reply wanted' if self.silent else ''}"


@dataclass(frozen=True)
class NextClient(Move):
    """Leave, and come again as another client."""

    def plan(self, world: World, facts: Facts) -> Plan:
        files = [each.memory for each in world.maps if each.memory is not None and each.sure]
        checks: tuple[AfterCheck, ...] = tuple(map(Released, files))
        yield Turn(LEFT, (Reconnect(),), checks)
        return reconnected(world)

    def __str__(self) -> str:
        return "disconnect, and connect as the next client"
