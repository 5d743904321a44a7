"""`python -m segjax serve`."""

import itertools
import os
import socket
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from segjax.commands import RUN_OPTION
from segjax.errors import InputError


def serve(
    run: Annotated[tyro.conf.UseAppendAction[tuple[tuple[Path, ...], ...]], RUN_OPTION],
    host: str = "127.0.0.1",
    port: int = 7860,
    allowed_hosts: tuple[str, ...] = (),
    max_megabytes: float = 32,
    max_megapixels: float = 16,
    max_native_megapixels: float = 2,
) -> None:
    """Opens a page on this machine that labels images with runs' networks.

    An image is dropped on the page, picked or pasted; it is kept in memory and never
    written to disk. Needs `pip install segjax[serve]`.

    Args:
      run: folders of the runs, shown side by side; all have the same classes, and the
        colours of the first.
      host: name or address to listen at; other machines reach the page only if this is
        one of the network's, and then anyone there may use it.
      port: to listen at; 0 takes any that is free.
      allowed_hosts: names by which the page may be asked for, besides localhost, the
        host given, and IP addresses.
      max_megabytes: largest file that is taken.
      max_megapixels: largest image that is taken.
      max_native_megapixels: likewise where the network sees the image at its own size.
    """
    try:
        from segjax.serve.app import build_app
        from segjax.serve.server import bind, run_server, url
    except ModuleNotFoundError as error:
        raise InputError(
            f"serve needs the package {error.name}: pip install segjax[serve]"
        ) from error
    from segjax.serve.labeller import Labeller
    from segjax.serve.runs import load_runs
    from segjax.serve.uploads import Limits
    from segjax.training import processes

    for name, value in {
        "max-megabytes": max_megabytes,
        "max-megapixels": max_megapixels,
        "max-native-megapixels": max_native_megapixels,
    }.items():
        if not 0 < value < 1e6:
            raise InputError(f"{name} is {value}, expected a positive number")
    limits = Limits(
        bytes=round(max_megabytes * 1e6),
        pixels=round(max_megapixels * 1e6),
        native_pixels=round(max_native_megapixels * 1e6),
    )
    console = Console()
    processes.keep_compiled_programs(processes.Launch())
    with bind(host, port) as listener:
        runs = load_runs(list(itertools.chain(*run)))
        for served in runs:
            console.print(
                f"{served.title}: {served.folder}", soft_wrap=True, markup=False
            )
        names = {name.lower() for name in (host, socket.gethostname(), *allowed_hosts)}
        labeller = Labeller(runs)
        app = build_app(labeller, limits=limits, names=names)
        console.print(f"{url(listener)}  (Ctrl-C ends)", soft_wrap=True, markup=False)
        run_server(app, listener, on_exit=labeller.stop)
    if labeller.busy:
        console.print("an image is being labelled; Ctrl-C again does not wait for it")
    try:
        labeller.close()
    except KeyboardInterrupt:
        # The thread cannot be broken off, and has nothing that would be lost.
        os._exit(130)
