"""Files of the Hugging Face hub, by `hub:ORG/REPO` and `hub:ORG/REPO/FILE`."""

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from segjax.errors import InputError

_PREFIX = "hub:"
_DEFAULT_FILE = "model.safetensors"
_NAME = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:/(.+))?")


def is_hub_name(name: str) -> bool:
    """Whether `name` means a file on the hub."""
    return name.startswith(_PREFIX)


def download(name: str) -> Path:
    """The local copy of a file on the hub, fetched if it is not there yet.

    Copies are kept where `huggingface_hub` keeps them (`HF_HOME`); one that is there
    serves without a network.

    Args:
      name: `hub:ORG/REPO/FILE`, e.g. `hub:timm/vgg16.tv_in1k/model.safetensors`; FILE is
        `model.safetensors` if left out.

    Raises:
      InputError: the name is of another form, `huggingface_hub` is not installed, or
        the hub cannot be reached or does not have the file.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise InputError(
            f"{name!r} is no file of the hub: expected hub:ORG/REPO or "
            "hub:ORG/REPO/FILE.safetensors"
        )
    repository, file = match[1], match[2] or _DEFAULT_FILE
    if not file.endswith(".safetensors"):
        raise InputError(f"{name}: expected a .safetensors file, got {file}")
    try:
        import huggingface_hub
        from huggingface_hub import errors
        from huggingface_hub.utils import logging as hub_logging
    except ModuleNotFoundError as error:
        raise InputError(
            f"{name} needs the hub's client: pip install huggingface_hub"
        ) from error
    try:
        with _without_warnings(hub_logging.get_logger()):
            return Path(huggingface_hub.hf_hub_download(repository, file))
    except errors.LocalEntryNotFoundError as error:
        raise InputError(
            f"{name} cannot be fetched: the hub cannot be reached, and there is no copy "
            "of it here"
        ) from error
    except (errors.RepositoryNotFoundError, errors.EntryNotFoundError) as error:
        raise InputError(
            f"{name}: the hub has no file {file} in {repository}, or not for everybody"
        ) from error
    # Its other errors, its HTTP library's and the system's have no common ancestor.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name} cannot be fetched: {reason}") from error


@contextlib.contextmanager
def _without_warnings(logger: logging.Logger) -> Iterator[None]:
    """Keeps `logger` from telling of every attempt; the last one's error is enough."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
