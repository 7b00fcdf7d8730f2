"""Compiles templates to code that counts its steps and calls the sandbox's checks."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, operators

from mailbatch.infrastructure.templates.comparisons import MOST_KEYS
from mailbatch.infrastructure.templates.null_values import ACCEPT_NULL
from mailbatch.infrastructure.templates.source_names import name_of

if TYPE_CHECKING:
    from jinja2.compiler import Frame

LONG = 4_096
"""Characters of a value beyond which it is counted before it is written."""


class CountingCodeGenerator(CodeGenerator):
    """Lets every loop and include be counted, every ``~`` be checked, and everything written be counted.

    Nearly all values are short texts. The generated code writes these in place, where Jinja2's own calls three
    functions for each. The calls of ``environment`` in it are methods of ``Sandbox``.
    """

    _called: nodes.Expr | None = None

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:  # noqa: N802 - Jinja2 names its visitors so
        """Refuse a number that is too large for a float: Jinja2 would write the name ``inf``."""
        if node.value.__class__ is float and not isfinite(node.value):
            self.fail("a number is too large", node.lineno)
        super().visit_Const(node, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802 - as above
        """Count each turn of a loop."""
        node.iter = self._call_of("count_turns", node.iter, nodes.Const(name_of(node.iter)))
        super().visit_For(node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802 - as above
        """Refuse null as the value of a filter, unless the filter accepts it."""
        if node.node is not None and node.name not in ACCEPT_NULL:
            node.node = self._call_of("not_null", node.node, nodes.Const(name_of(node.node)))
        super().visit_Filter(node, frame)

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: FBT001, FBT002, N802
        """Write calls of the environment in place; the others call the sandbox, which counts them."""
        if not isinstance(node.node, nodes.EnvironmentAttribute):
            self._called = node.node
            super().visit_Call(node, frame, forward_caller=forward_caller)
        elif node.node.name == "not_null":  # in place, because nearly no value is null
            self.write("(value if (value := (")
            self.visit(node.args[0], frame)
            self.write(")) is not None else environment.refuse_null(")
            self.visit(node.args[1], frame)
            self.write("))")
        else:
            self.write(f"environment.{node.node.name}(")
            self._visit_all(node.args, frame, ")")

    def _call_of(self, name: str, *args: nodes.Node) -> nodes.Expr:
        """Return a call of the environment's method ``name``, which no source can write."""
        call = nodes.Call(nodes.EnvironmentAttribute(name), list(args), [], None, None)
        call.environment, call.lineno = self.environment, args[0].lineno
        return call

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802 - as above
        """Look for a method where the attribute is called. Elsewhere nearly all are keys of a dict, read in place."""
        if node is self._called:
            self.write("environment.method(")
            self.visit(node.node, frame)
            self.write(f", {node.attr!r})")
        else:
            key = repr(node.attr)
            self.write(f"(value[{key}] if (value := ")
            self.visit(node.node, frame)
            self.write(f").__class__ is dict and {key} in value else environment.getattr(value, {key}))")

    def visit_Include(self, node: nodes.Include, frame: Frame) -> None:  # noqa: N802 - as above
        """Count the include."""
        self.writeline("environment.count_include()")
        super().visit_Include(node, frame)

    def buffer(self, frame: Frame) -> None:
        """Let the buffer of a macro or a set block count what is written into it."""
        super().buffer(frame)
        self.writeline(f"{frame.buffer} = environment.buffer()")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: object) -> None:  # noqa: ARG002
        self.write("(value if (value := (")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: object) -> None:  # noqa: ARG002
        plain, name = f")).__class__ is str and len(value) <= {LONG}", name_of(node)
        if frame.eval_ctx.volatile:
            self.write(f"{plain} and not context.eval_ctx.autoescape else ")
            self.write(f"environment.to_output(value, context.eval_ctx.autoescape, {name!r}))")
        elif frame.eval_ctx.autoescape:
            self.write(f"{plain} and not environment.markup_in(value) ")
            self.write(f"else environment.to_output(value, True, {name!r}))")
        else:
            self.write(f"{plain} else environment.to_output(value, False, {name!r}))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802 - as above
        """Check a slice, and a key that is no constant."""
        if isinstance(node.arg, nodes.Slice):
            self.write("environment.check_slice(")
            super().visit_Getitem(node, frame)
            self.write(")")
        else:
            if not isinstance(node.arg, nodes.Const):
                node.arg = self._call_of("check_hash", node.arg)
            self.write("environment.method_or_item(" if node is self._called else "environment.getitem(")
            self._visit_all([node.node, node.arg], frame, ")")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802 - as above
        """Check a comparison, unless one side is a short constant."""
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if any(_is_short(side) for side in sides[1:]) and len(node.ops) == 1 and "in" not in node.ops[0].op:
            super().visit_Compare(node, frame)
        elif len(node.ops) == 1:
            called = {"in": "(environment.contains(", "notin": "(not environment.contains("}
            self.write(called.get(node.ops[0].op, f"(environment.compare({node.ops[0].op!r}, "))
            self._visit_all(sides, frame)
        else:
            # A chain evaluates its next side only if it has to, so each side is measured where it stands.
            self.write("(environment.measured(")
            self.visit(node.expr, frame)
            self.write(")")
            for operand in node.ops:
                self.write(f" {operators[operand.op]} environment.measured(")
                self.visit(operand.expr, frame)
                self.write(")")
            self.write(")")

    def _visit_all(self, parts: list[nodes.Expr], frame: Frame, end: str = "))") -> None:
        for part in parts:
            self.visit(part, frame)
            self.write(", ")
        self.write(end)

    def visit_Sub(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802 - as above
        """Check a subtraction, unless one side is a short constant."""
        if _is_short(node.left) or _is_short(node.right):
            super().visit_Sub(node, frame)
        else:
            self.write("(environment.subtract(")
            self._visit_all([node.left, node.right], frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802 - as above
        """Check the keys of a dict that are not texts."""
        not_texts = [item for item in node.items if not _is_text(item.key)]
        if len(not_texts) > MOST_KEYS:
            raise TemplateSyntaxError(f"has a dict of more than {MOST_KEYS} keys that are no texts", node.lineno)
        for item in not_texts:
            item.key = self._call_of("check_hash", item.key)
        super().visit_Dict(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - as above
        """Check what ``~`` makes."""
        self.write("environment.concatenate(context, (")
        self._visit_all(node.nodes, frame, f"), {tuple(map(name_of, node.nodes))!r})")


def _is_short(node: nodes.Expr) -> bool:
    """Return whether ``node`` is a constant that is compared with anything at once."""
    return isinstance(node, nodes.Const) and not (isinstance(node.value, str) and len(node.value) > LONG)


def _is_text(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, str)
