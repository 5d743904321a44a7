"""The style and scripts that a page carries within itself."""

import base64
import hashlib
from importlib import resources


def asset(name: str) -> str:
    """The text of a file in `segjax/report/assets`."""
    folder = resources.files("segjax.report").joinpath("assets")
    return folder.joinpath(name).read_text(encoding="utf-8")


def digest(script: str) -> str:
    """Names a script for the content security policy, so that no other may run."""
    value = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(value).decode('ascii')}'"
