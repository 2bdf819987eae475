"""Formulas become MathML when the site is built: browsers draw it by themselves, without a script or a network."""

import html
import re
from typing import Any

from latex2mathml.converter import convert

_BLACKBOARD = {"E": "𝔼", "R": "ℝ"}  # browsers know no blackboard bold but that of the letters themselves
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', flags=re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """The page with a ``<math>`` for each formula that arithmatex has marked."""
    return _FORMULA.sub(_drawn, content)


def _drawn(found: re.Match[str]) -> str:
    tag, tex = found.groups()
    # Names of the code have their underscores escaped inside \texttt, where the converter would show the backslash.
    tex = re.sub(r"\\texttt\{[^}]*\}", lambda name: name[0].replace(r"\_", "_"), html.unescape(tex))
    tex = re.sub(r"\\mathbb\s*([A-Z])", lambda letter: _BLACKBOARD[letter[1]], tex)
    return f'<{tag} class="arithmatex">{convert(tex, display="block" if tag == "div" else "inline")}</{tag}>'
