"""Resident memory that one size of one network takes: what `growth.py` starts.

Prints the bytes by which this process's peak grows from before the network is made until
it has worked three times.
"""

import json
import re
import sys
from pathlib import Path

from growth import Point, open_phase


def _resident(name: str) -> int:
    """Bytes, "VmRSS" now or "VmHWM" at most. `getrusage` has the parent's, too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{name}:\s+(\d+) kB", status)[1])


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    # Forgets the peak of importing.
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    run, _ = open_phase(Point(**told["point"]), told["channels"])
    for _ in range(3):
        run()
    print(_resident("VmHWM") - before)
