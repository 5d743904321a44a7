"""Docstrings, which are written to be read as plain text, as reStructuredText.

They have single backticks around code, indented blocks for layouts and examples, and
asterisks, bars and underscores that mean themselves.
"""

import re

from sphinx.domains.python import PyObject

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):\s*$")
_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_MARKUP = re.compile(r"[*|]|_(?=\W|$)")
_LITERAL = re.compile(r"(?m)(^::\n\n(?:(?: +.*)?\n)+)")
# Flax adds these two to every module's constructor.
# <class 'jax.numpy.float32'>, <function f at 0x7f...>: what a default looks like.
_DEFAULT = re.compile(r"<(?:class|function) '?(?:[\w.]*\.)?(\w+)'?(?: at \w+)?>")
_FLAX = re.compile(r", (parent|name)(: [^=]*)? ?= ?(<[^>]*>|None)(?=[,)])")


def as_restructured_text(lines: list[str]) -> list[str]:
    """A docstring's lines, marked up.

    An indented block after an empty line is literal, unless it belongs to a section
    of Google's style or to an item of a list.
    """
    out: list[str] = []
    above, literal = "", False
    for before, line in zip(["", *lines], lines, strict=False):
        indented = line.startswith("    ")
        if line.strip() and not line.startswith(" "):
            above, literal = line, False
        elif indented and not before.strip() and not literal:
            literal = not (_SECTION.match(above) or above.startswith("- "))
            if literal:
                out += ["::", ""]
        out.append(line)
    parts = _LITERAL.split("\n".join([*out, ""]))
    parts[::2] = map(_mark_up, parts[::2])
    return "".join(parts).splitlines()


def _mark_up(text: str) -> str:
    """Text without literal blocks: code in double backticks, markup escaped."""
    out, end = [], 0
    for found in _CODE.finditer(text):
        out.append(_MARKUP.sub(r"\\\g<0>", text[end : found.start()]))
        out.append(f"``{' '.join(found[2].split())}``")
        end = found.end()
        if text[end : end + 1].isalnum():  # would not end the code
            out.append("\\ ")
    out.append(_MARKUP.sub(r"\\\g<0>", text[end:]))
    return "".join(out)


def _process_docstring(app, what, name, obj, options, lines):
    lines[:] = as_restructured_text(lines)


def _process_signature(app, what, name, obj, options, signature, returns):
    return signature and _DEFAULT.sub(r"\1", _FLAX.sub("", signature)), returns


def _skip_member(app, what, name, obj, skip, options):
    # The default of a field is no member: float32, whose docstring would be shown.
    return True if getattr(obj, "__module__", "").startswith("jax.") else None


def setup(app):
    """Marks docstrings up before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", _process_docstring, priority=400)
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("autodoc-skip-member", _skip_member)
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
