"""The contact sheet as one HTML page that needs nothing beside it."""

import json
import string
from html import escape
from pathlib import Path

from segjax.data.labels import VOID
from segjax.report.contact_sheet import (
    VOID_STRIPES,
    Sheet,
    counting_note,
    stripe_width,
)
from segjax.report.page_assets import asset, digest
from segjax.report.page_markup import Cell, Column, table
from segjax.report.page_viewer import encode_classes, encode_image
from segjax.whole_file import whole_file

_SCRIPTS = ("tables.js", "classmaps.js", "contact.js")


def write_contact_page(path: Path, sheet: Sheet, *, command: str) -> Path:
    """Writes the sheet as a page, whole or not at all; its folder is made.

    The page holds its pictures, and its content security policy forbids the browser to
    load anything from anywhere.

    Args:
      path: of the page.
      sheet: what to show.
      command: that makes the page again; shown on it.

    Returns:
      `path`.

    Raises:
      InputError: `path` cannot be written.
    """
    page = render_contact_page(sheet, command=command)
    with whole_file(path) as scratch:
        scratch.write_text(page, encoding="utf-8")
    return path


def render_contact_page(sheet: Sheet, *, command: str) -> str:
    """The page of `write_contact_page` as text."""
    scripts = [asset(name) for name in _SCRIPTS]
    # "<" would let a name end the script element that the data stand in.
    data = json.dumps(_data(sheet), allow_nan=False).replace("<", "\\u003c")
    return string.Template(asset("contact.html")).substitute(
        title=escape(sheet.title),
        note=escape(counting_note(sheet)),
        command=escape(command),
        legend=_legend(sheet),
        cards="".join(
            map(_card, range(len(sheet.examples)), sheet.examples, sheet.sizes)
        ),
        data=data,
        style=asset("report.css") + asset("contact.css"),
        policy=" ".join(digest(script) for script in scripts),
        scripts="".join(f"<script>{script}</script>" for script in scripts),
    )


def _data(sheet: Sheet) -> dict:
    k = sheet.table.num_classes
    return {
        "classes": [
            {"name": name, "color": [int(value) for value in color]}
            for name, color in zip(sheet.table.names, sheet.table.colors, strict=True)
        ],
        "stripes": VOID_STRIPES,
        "step": 255 // k,
        "images": [
            {
                "width": example["label"].shape[1],
                "height": example["label"].shape[0],
                "stripe": stripe_width(example["label"].shape),
                "image": encode_image(example["image"]),
                "label": encode_classes(example["label"], k),
            }
            for example in sheet.examples
        ],
    }


def _legend(sheet: Sheet) -> str:
    largest = max(float(sheet.shares.max()), sheet.void_share, 1e-9)
    columns = [
        Column("class"),
        Column("of labelled pixels", "number"),
        Column("images", "number"),
    ]
    rows = []
    for index, name in enumerate(sheet.table.names):
        red, green, blue = sheet.table.colors[index]
        share = float(sheet.shares[index])
        rows.append(
            [
                Cell(_pick(index, name, f"rgb({red},{green},{blue})"), name),
                _bar(share, share / largest, f"{int(sheet.pixels[index]):,} pixels"),
                Cell(f"{int(sheet.images[index]):,}", int(sheet.images[index])),
            ]
        )
    a, b = (f"rgb{color}" for color in VOID_STRIPES)
    stripes = f"repeating-linear-gradient(135deg,{a} 0 2px,{b} 2px 4px)"
    void = [
        Cell(_pick(VOID, "void", stripes), "void"),
        _bar(
            sheet.void_share,
            sheet.void_share / largest,
            f"{sheet.void:,} pixels, as a share of all pixels",
        ),
        Cell(""),
    ]
    return table(columns, rows, label="Classes", foot=[void])


def _pick(index: int, name: str, background: str) -> str:
    return (
        f'<button class="pick" type="button" aria-pressed="false" data-class="{index}">'
        f'<i class="swatch" style="background:{background}"></i>{escape(name)}</button>'
    )


def _bar(share: float, length: float, note: str) -> Cell:
    text = f"{share:.2%}" if share >= 1e-4 or not share else f"{share:.4%}"
    return Cell(
        f'<span class="share" style="--length:{length:.4f}">{text}</span>', share, note
    )


def _card(index: int, example, size) -> str:
    name = escape(example["id"])
    height, width = size
    shown_height, shown_width = example["label"].shape
    scaled = "" if (shown_height, shown_width) == (height, width) else ", shown smaller"
    panes = "".join(
        f'<div class="pane" data-kind="{kind}"><div class="frame" '
        f'style="aspect-ratio:{shown_width}/{shown_height}">'
        f'<div class="stage"><img alt="{kind} {name}"><canvas></canvas></div></div></div>'
        for kind in ("image", "label")
    )
    return (
        f'<figure class="card" data-index="{index}"><figcaption>{name}'
        f" <small>{height}&times;{width}{scaled}</small></figcaption>"
        f'<div class="panes">{panes}</div>'
        '<p class="caption"><span class="readout">&nbsp;</span></p></figure>'
    )
