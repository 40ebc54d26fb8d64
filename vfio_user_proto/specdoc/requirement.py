"""The directive ``.. requirement:: id``: one statement that a peer can be held to."""

from docutils import nodes
from docutils.parsers.rst import Directive, directives


class requirement(nodes.General, nodes.Element):
    """The node of one requirement; its attributes are the options as they were written, ``ident`` is the argument."""


class RequirementDirective(Directive):
    """Options: level, side, the anchor in the published text (section, quote), perhaps the erratum that it follows."""

    required_arguments = 1
    has_content = True
    option_spec = dict.fromkeys(("level", "side", "section", "quote", "erratum"), directives.unchanged)

    def run(self) -> list[nodes.Node]:
        node = requirement(ident=self.arguments[0], **self.options)
        node.source, node.line = self.state_machine.get_source_and_line(self.lineno)
        self.state.nested_parse(self.content, self.content_offset, node)
        return [node]


def register() -> None:
    """Make the directive known to docutils."""
    directives.register_directive("requirement", RequirementDirective)
