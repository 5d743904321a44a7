"""Collectives and memory traffic of a compiled program, read from its HLO text."""

import dataclasses
import math
import re
from collections.abc import Iterator

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
    "ragged-all-to-all",
    "collective-broadcast",
)

_COMPUTATION = re.compile(r"^\s*(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)$")
_OPCODE = re.compile(r"\s*(?P<opcode>[\w\-]+)\(")
_ARRAY = re.compile(
    r"\b(?P<type>pred|(?:bf|f|s|u|c)(?P<bits>\d+)\w*)\[(?P<shape>.*?)\]"
    r"(?:\{(?P<order>[\d,]*)(?::(?P<layout>[^}]*))?\})?"
)
_TILE = re.compile(r"T\((\d+(?:,\d+)*)\)")
_ON_CHIP = re.compile(r"S\([1-9]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"\b(?:calls|body|condition|to_apply|true_computation|false_computation)="
    r"%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_IOTA_GROUPS = re.compile(r"replica_groups=\[(\d+(?:,\d+)*)\]<=")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction by which devices exchange data.

    Attributes:
      kind: one of `KINDS`.
      num_bytes: of the whole array on one device: what is reduced, what was gathered,
        what is scattered, what is sent on.
      group_size: devices that take part together; 1 for a permutation, whose data
        goes to one other device.
      times: how often a step executes it; more than once inside of a loop.
    """

    kind: str
    num_bytes: int
    group_size: int
    times: int

    @property
    def sent_bytes(self) -> float:
        """Bytes that one device sends in a step, by the algorithm that sends least.

        Rings, where `n` devices share `b` bytes: an all-reduce sends `2 b (n - 1) / n`,
        a gather, a scatter and an exchange half of it, a permutation `b`.
        """
        if self.kind in ("collective-permute", "collective-broadcast"):
            return float(self.times * self.num_bytes)
        passes = 2 if self.kind == "all-reduce" else 1
        share = (self.group_size - 1) / self.group_size
        return self.times * passes * share * self.num_bytes


@dataclasses.dataclass(frozen=True)
class KindTotal:
    """All collectives of one kind in one step, per device.

    Attributes:
      kind: one of `KINDS`.
      count: how many are executed.
      num_bytes: of their arrays, added up.
      sent_bytes: that one device sends for them.
    """

    kind: str
    count: int
    num_bytes: int
    sent_bytes: float


def find_collectives(text: str, *, num_devices: int) -> tuple[Collective, ...]:
    """The collectives of a program, in the order of its text.

    An asynchronous one is counted where it starts. One inside of a loop counts as often
    as the loop is known to run, and once where the compiler does not say. One among a
    single device is none.

    Args:
      text: HLO of a module, `compiled.as_text()`.
      num_devices: that the program runs on.
    """
    computations, entry = _computations(text)
    times = _times(computations, entry)
    found = []
    for name, instructions in computations.items():
        for _, shape, opcode, attributes in instructions:
            kind = opcode.removesuffix("-start")
            if kind not in KINDS:
                continue
            group_size = _group_size(kind, attributes, num_devices)
            if group_size == 1 and kind != "collective-permute":
                continue
            num_bytes = _payload(kind, shape, is_start=kind != opcode)
            if kind == "reduce-scatter":
                num_bytes *= group_size
            if times[name]:
                found.append(Collective(kind, num_bytes, group_size, times[name]))
    return tuple(found)


def totals(collectives: tuple[Collective, ...]) -> tuple[KindTotal, ...]:
    """Collectives added up by kind, in the order of `KINDS`."""
    result = []
    for kind in KINDS:
        same = [c for c in collectives if c.kind == kind]
        if same:
            result.append(
                KindTotal(
                    kind,
                    count=sum(c.times for c in same),
                    num_bytes=sum(c.times * c.num_bytes for c in same),
                    sent_bytes=sum(c.sent_bytes for c in same),
                )
            )
    return tuple(result)


def memory_traffic(text: str) -> int:
    """Bytes that a TPU program reads from and writes to its large memory in a step.

    What an operation takes and gives, padded to the tiles in which it is stored, but for
    arrays that the compiler keeps in memory on the chip (spaces `S(1)` and higher in
    the layouts). The compiler's own count has those, too. A fused operation that reads
    a part of an array counts as reading all of it.

    Args:
      text: HLO of a scheduled module for TPU, `compiled.as_text()`.
    """
    computations, entry = _computations(text)
    times = _times(computations, entry, callers=_SEQUENCES)
    total = 0
    for name, instructions in computations.items():
        if not times[name]:
            continue
        shapes = {result: shape for result, shape, _, _ in instructions}
        total += times[name] * sum(
            _traffic(shape, opcode, attributes, shapes)
            for _, shape, opcode, attributes in instructions
        )
    return total


# What calls a computation that is executed instruction by instruction.
_SEQUENCES = ("while", "call", "conditional")
# What moves nothing itself.
_FREE = (
    "after-all",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "iota",
    "parameter",
    "partition-id",
    "tuple",
    "while",
)
_SLICES = ("slice", "slice-start", "dynamic-slice", "dynamic-slice-start")


def _traffic(shape, opcode, attributes, shapes):
    if opcode in _FREE or opcode.endswith(("-done", "-update")):
        return 0
    results = list(_ARRAY.finditer(shape))
    operands = [
        array
        for name in _OPERAND.findall(attributes[: _closing(attributes)])
        for array in _ARRAY.finditer(shapes.get(name, ""))
    ]
    if opcode in _SLICES or opcode == "copy-start":
        # Reads as much as it writes. An asynchronous one's shape names its operand, too.
        at = 1 if opcode in ("slice-start", "dynamic-slice-start") else 0
        written = _stored_bytes(results[at])
        spaces = [
            _ON_CHIP.search(a["layout"] or "") for a in (results[at], operands[0])
        ]
        return written * sum(space is None for space in spaces)
    return sum(
        _stored_bytes(array)
        for array in (*results, *operands)
        if not _ON_CHIP.search(array["layout"] or "")
    )


def _stored_bytes(array: re.Match) -> int:
    """With the padding of its tiles: `{1,0:T(8,128)}` pads to multiples of 8 and 128."""
    tile = _TILE.search(array["layout"] or "")
    sides = _sides(array)
    if tile is None or not sides:
        return _num_bytes(array)
    stored = [sides[int(axis)] for axis in array["order"].split(",")]  # minor first
    for i, multiple in enumerate(map(int, reversed(tile[1].split(",")))):
        if i < len(stored):
            stored[i] = -(-stored[i] // multiple) * multiple
        else:
            stored.append(multiple)
    return -(-math.prod(stored) * _bits(array) // 8)


def _times(computations, entry, *, callers=None):
    """How often each computation is executed, if `callers` (all opcodes) call it."""
    called_by = {name: [] for name in computations}
    for name, instructions in computations.items():
        for _, _, opcode, attributes in instructions:
            if opcode.endswith(("-update", "-done")):
                continue  # names what its start called
            if callers is not None and opcode not in callers:
                continue
            trips = _TRIPS.search(attributes) if opcode == "while" else None
            for called in _called(attributes):
                if called in called_by:
                    called_by[called].append((name, int(trips[1]) if trips else 1))
    known = {entry: 1}

    def times(name):
        if name not in known:
            known[name] = sum(times(caller) * n for caller, n in called_by[name])
        return known[name]

    return {name: times(name) for name in computations}


def _computations(text):
    """Name -> (name, shape, opcode, rest) of its instructions; the entry's name."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if current is None:
            if header := _COMPUTATION.match(line):
                current = computations.setdefault(header["name"], [])
                if header["entry"]:
                    entry = header["name"]
        elif line.strip() == "}":
            current = None
        elif instruction := _INSTRUCTION.match(line):
            rest = instruction["rest"]
            end = _shape_end(rest)
            if opcode := _OPCODE.match(rest, end):
                attributes = rest[opcode.end() :]
                current.append(
                    (instruction["name"], rest[:end], opcode["opcode"], attributes)
                )
    return computations, entry


def _shape_end(text: str) -> int:
    """Where the shape ends that `text` starts with: a tuple's has spaces in it."""
    if not text.startswith("("):
        return text.find(" ")
    return 1 + _closing(text[1:]) + 1


def _closing(text: str) -> int:
    """Where the parenthesis closes that was opened before `text`."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return i
    return len(text)


def _called(attributes: str) -> Iterator[str]:
    yield from _CALLED.findall(attributes)
    for branches in _BRANCHES.findall(attributes):
        for name in branches.split(","):
            yield name.strip().lstrip("%")


def _payload(kind: str, shape: str, *, is_start: bool) -> int:
    sizes = [_num_bytes(array) for array in _ARRAY.finditer(shape)]
    if is_start and kind == "collective-permute":
        return sizes[1]  # operand, result, then the operation's context
    if is_start and kind != "all-reduce":
        return sum(sizes[len(sizes) // 2 :])  # operands, then results
    return sum(sizes)


def _num_bytes(array: re.Match) -> int:
    return -(-math.prod(_sides(array)) * _bits(array) // 8)


def _bits(array: re.Match) -> int:
    return 8 if array["type"] == "pred" else int(array["bits"])


def _sides(array: re.Match) -> list[int]:
    # A bounded dynamic size is written `<=8`.
    return [int(side.strip(" <=")) for side in array["shape"].split(",") if side]


def _group_size(kind: str, attributes: str, num_devices: int) -> int:
    if kind == "collective-permute":
        return 1
    if groups := _LISTED_GROUPS.search(attributes):
        return len(groups[1].split(","))
    if groups := _IOTA_GROUPS.search(attributes):  # number of groups, their size
        return int(groups[1].split(",")[-1])
    if groups := _MESH_GROUPS.search(attributes):
        sizes = dict(axis.split("=") for axis in groups[1].split(","))
        return math.prod(int(sizes[axis.strip()]) for axis in groups[2].split(","))
    return num_devices  # `replica_groups={}`: all of them
