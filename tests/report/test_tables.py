"""Tables print what was measured and a dash for what was not."""

from rich.console import Console

from segjax.data.labels import LabelTable
from segjax.report.tables import Row, class_table, comparison_table

SCORES = {
    "miou": 0.25,
    "pixel_accuracy": 0.5,
    "class_accuracy": 0.125,
    "fwiou": 0.75,
    "iou": [0.25, float("nan")],
}
ROWS = [Row("net", SCORES, 1_234_567, 0.0321), Row("baseline", SCORES, None, None)]


def lines(table):
    console = Console(width=200, record=True, quiet=True)
    with console.capture() as capture:
        console.quiet = False
        console.print(table)
    return [
        [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]
        for line in capture.get().splitlines()
        if "│" in line
    ]


def test_comparison_table():
    assert lines(comparison_table(ROWS, title="t")) == [
        ["net", "0.250", "0.500", "0.125", "0.750", "1,234,567", "32"],
        ["baseline", "0.250", "0.500", "0.125", "0.750", "-", "-"],
    ]


def test_class_table():
    table = LabelTable(("a", "b"), ((0, 0, 1), (0, 1, 0)), {0: 0, 1: 1})
    assert lines(class_table(ROWS, table, title="t")) == [
        ["a", "0.250", "0.250"],
        ["b", "-", "-"],
    ]
