"""Formulas as MathML, which browsers set without a script and screen readers read."""

import itertools
import re
from typing import Any
from xml.etree import ElementTree as Tree

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

_log = logging.getLogger(__name__)

_ALIGNED = re.compile(r"\\(begin|end)\{(?:aligned|split|gathered)\}")
# Before these, a function such as log stands without a bracket and needs some room.
_OPERANDS = {"mi", "mn", "msup", "msub", "msubsup", "mfrac", "msqrt", "mover"}
_ROWS = {"math", "mrow", "mtd", "mstyle"}


def mathml(formula: str, display: str = "inline") -> str:
    """A formula of LaTeX as a ``math`` element.

    Raises:
        ValueError: the formula has a command that is not known, or cannot be read.
    """
    try:
        text = convert(_ALIGNED.sub(r"\\\1{align*}", formula.strip()), display=display)
        # Names of LaTeX's spaces are no lengths.
        root = Tree.fromstring(
            text.replace('"negativethinmathspace"', '"-0.167em"').replace("<mi>&</mi>", "")
        )
    except Exception as error:  # the converter has no common kind of errors
        raise ValueError(f"cannot set the formula {formula!r}: {error}") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib.pop("xmlns", None)
        if (element.text or "").startswith("\\"):
            raise ValueError(f"the formula {formula!r} has the command {element.text}, which is not known")
        if element.tag == "mo" and re.fullmatch("[A-Za-z]{2,}", element.text or ""):
            element.tag = "mi"
    for row in [element for element in root.iter() if element.tag in _ROWS]:
        for left, right in list(itertools.pairwise(row)):
            if _is_function(left) and (right.tag in _OPERANDS):
                row.insert(list(row).index(right), Tree.Element("mspace", width="0.17em"))
    return Tree.tostring(root, encoding="unicode")


def _is_function(element: Tree.Element) -> bool:
    base = element[0] if element.tag in ("msup", "msub", "msubsup") else element
    return base.tag == "mi" and len(base.text or "") > 1


def _checked(node: Any, display: str) -> str:
    try:
        return mathml(node.astext(), display)
    except ValueError as error:
        _log.warning(str(error), location=node)
        return ""


def inline(writer: Any, node: Any) -> None:
    """Sphinx's visitor of a formula inside a sentence."""
    writer.body.append(_checked(node, "inline"))
    raise nodes.SkipNode


def block(writer: Any, node: Any) -> None:
    """Sphinx's visitor of a formula on a line of its own."""
    writer.body.append(writer.starttag(node, "div", CLASS="math"))
    if node["number"]:
        writer.body.append(f'<span class="eqno">({get_node_equation_number(writer, node)})</span>')
    writer.body.append(f"{_checked(node, 'block')}</div>\n")
    raise nodes.SkipNode
