"""A chat template's code is made to count: loops, macros, lists, mappings and texts."""

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


def count_operations(tree: nodes.Template) -> nodes.Template:
    """Puts calls of the environment's count_round and so on where a template does work.

    Args:
        tree: A parsed template; it is changed.

    Returns:
        The template with the calls.
    """
    return _Counting().visit(tree)


class _Counting(NodeTransformer):
    """As `count_operations` says."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        return self._counted_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._counted_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._counted_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        return self._counted_body(node)

    def _counted_body(self, node: Any) -> nodes.Node:
        written = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        count = _call("count_round", [nodes.Const(written)], node.lineno)
        node.body.insert(0, nodes.ExprStmt(count).set_lineno(node.lineno, override=True))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return self._counted_value(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return self._counted_value(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        return self._counted_value(node) if node.ctx == "load" else self.generic_visit(node)

    def _counted_value(self, node: Any) -> nodes.Node:
        constant = all(isinstance(child, nodes.Const) for child in node.iter_child_nodes())
        self.generic_visit(node)
        return node if constant else _call("count_value", [node], node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _call("look_at", [node.expr], node.lineno)
        for operand in node.ops:
            operand.expr = _call("look_at", [operand.expr], node.lineno)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _call("count_value", [node], node.lineno)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = _call("look_at", [node.arg], node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _call("join_texts", node.nodes, node.lineno)


def _call(name: str, arguments: list[nodes.Expr], line: int) -> nodes.Expr:
    call = nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)
    call.set_lineno(line, override=True)
    return call
