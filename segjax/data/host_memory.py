"""How much memory this process may still take, on Linux."""

from pathlib import Path

# Version 2 of control groups, then 1: limit, use, and what of the use is file cache that
# the kernel gives back.
_GROUPS = (
    ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken without swapping, or None where nothing tells.

    The kernel's own estimate (`MemAvailable`), or what the limit of the container
    leaves if that is less.

    Args:
      root: where `proc` and `sys` are.
    """
    left = [_machine(root), *(_group(root, *names) for names in _GROUPS)]
    known = [number for number in left if number is not None]
    return max(0, min(known)) if known else None


def _machine(root):
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _group(root, folder, limit, usage, cache):
    sizes = [_lines(root / folder / name) for name in (limit, usage)]
    if not all(lines and lines[0].strip().isdigit() for lines in sizes):
        return None  # no such group, or "max": no limit
    most, used = (int(lines[0]) for lines in sizes)
    for line in _lines(root / folder / "memory.stat"):
        name, _, number = line.partition(" ")
        if name == cache:
            used -= int(number)
    return most - used


def _lines(path):
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
