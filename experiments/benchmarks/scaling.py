"""What the main networks need on TPU v5e slices, from the TPU's compiler alone.

    pip install segjax[tpu]
    python experiments/benchmarks/scaling.py

Compiles every network's training step for one chip and for every slice, as `python -m
segjax plan` does, and writes experiments/results/scaling.md. A compilation takes minutes,
so each is kept in the work directory and read the next time (remove it after a change of
the code); what is not there yet is "not run" in the page. No TPU is needed, and none is
measured.
"""

import dataclasses
import datetime
import json
from pathlib import Path

from rich.console import Console

from segjax import cli
from segjax.configuration import Config
from segjax.planning.chips import GIB
from segjax.planning.estimate import Estimate, Memory, OutOfMemory
from segjax.planning.hlo import KindTotal
from segjax.planning.plan import LABEL, estimate_one_device, make_plan, plan_values
from segjax.planning.programs import describe_data, read_config
from segjax.planning.roofline import Roofline
from segjax.planning.topology import find_devices

_EXPERIMENTS = Path(__file__).parent.parent
# Network -> the experiment whose recipe it is planned with.
_RECIPES = {
    "segnet_basic": "camvid_segnet_basic.py",
    "fcn8s": "camvid_fcn8s.py",
    "unet": "camvid_unet.py",
}
_QUICK = (
    ", with the least effort (`--quick`). With the effort of a run, earlier versions of "
    "SegNet-Basic and U-Net on 2x2 had the same operations and collectives, temporaries "
    "within 2 %, and moved 7 to 8 % fewer bytes."
)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What to compile."""

    models: tuple[str, ...] = ("segnet_basic", "fcn8s", "unet")
    """Networks to compile now; the page shows all."""

    slices: tuple[str, ...] = ("v5e:2x2", "v5e:4x4", "v5e:16x16")
    """Slices to compile for now; the page shows these."""

    crop_size: tuple[int, int] = (352, 480)
    """Training crop: CamVid's 360x480, the height cut to what U-Net takes."""

    batch_per_chip: int = 8
    """Images per chip and step."""

    quick: bool = False
    """Compile with the least effort: in a fraction of the time, but bytes moved come out
    a tenth higher."""

    workdir: Path = Path("runs/scaling")
    """Where the compilations' figures are kept."""

    page: Path = _EXPERIMENTS / "results" / "scaling.md"
    """What to write."""


def main(benchmark: Benchmark) -> None:
    """Compiles what is not there yet and writes the page."""
    console = Console()
    benchmark.workdir.mkdir(parents=True, exist_ok=True)
    for model in benchmark.models:
        for topology in benchmark.slices:
            path = _path(benchmark, model, topology)
            if path.is_file():
                continue
            console.print(f"compiling {model} for {topology}")
            path.write_text(json.dumps(_compile(benchmark, model, topology), indent=1))
            benchmark.page.write_text(_page(benchmark))
    benchmark.page.write_text(_page(benchmark))
    console.print(str(benchmark.page))


def _compile(benchmark: Benchmark, model: str, topology: str) -> dict:
    devices = find_devices(topology)
    config = _config(benchmark, model, chips=len(devices))
    data = describe_data(config)
    alone = _path(benchmark, model, "one_chip")
    if alone.is_file():
        one_device = _estimate(json.loads(alone.read_text()))
    else:
        one_device = estimate_one_device(config, data, devices, quick=benchmark.quick)
        alone.write_text(json.dumps(dataclasses.asdict(one_device), indent=1))
    made = make_plan(
        config,
        data,
        devices,
        topology=topology,
        evaluation=False,
        one_device=one_device,
        quick=benchmark.quick,
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {**plan_values(made), "date": today}


def _config(benchmark: Benchmark, model: str, *, chips: int) -> Config:
    return dataclasses.replace(
        read_config(_EXPERIMENTS / _RECIPES[model]),
        model=model,
        dtype="bfloat16",
        image_size=benchmark.crop_size,
        crop_size=benchmark.crop_size,
        batch_size=benchmark.batch_per_chip * chips,
    )


def _estimate(values: dict) -> Estimate:
    """The estimate that `dataclasses.asdict` made values of."""

    def part(kind, name):
        return None if values[name] is None else kind(**values[name])

    return Estimate(
        **{
            **values,
            "memory": part(Memory, "memory"),
            "out_of_memory": part(OutOfMemory, "out_of_memory"),
            "collectives": tuple(KindTotal(**c) for c in values["collectives"]),
            "roofline": part(Roofline, "roofline"),
        }
    )


def _path(benchmark: Benchmark, model: str, name: str) -> Path:
    height, width = benchmark.crop_size
    size = f"{height}x{width}x{benchmark.batch_per_chip}"
    if benchmark.quick:
        size += "-quick"
    return benchmark.workdir / f"{model}-{size}-{name.replace(':', '_')}.json"


def _page(benchmark: Benchmark) -> str:
    height, width = benchmark.crop_size
    plans = {
        (model, topology): json.loads(path.read_text())
        for model in _RECIPES
        for topology in benchmark.slices
        if (path := _path(benchmark, model, topology)).is_file()
    }
    lines = [
        "# Scaling on TPU v5e, as its compiler sees it",
        "",
        f"All figures are {LABEL}:",
        f"`python experiments/benchmarks/scaling.py{' --quick' * benchmark.quick}` compiles",
        "the training step with the TPU's compiler on a machine without a TPU, as",
        "`python -m segjax plan` does. Times are those of a chip all of whose units work at",
        "their stated peak rates all the time; a real step takes longer.",
        "",
        f"bfloat16, crops of {height}x{width}, {benchmark.batch_per_chip} images per chip,"
        " 11 classes; the recipe (optimiser, dropout)",
        "is that of the experiment. Memory, operations, bytes and collectives are of one",
        "chip and one step. Efficiency is images/s per chip against one chip with as many",
        "images: if all communication overlaps with work, and if none does.",
        "",
        "| network | slice | chips | batch | memory, GiB | fits 16 GiB | TFLOP | GB moved "
        "| collectives | MB sent | bound by | step, ms | images/s | efficiency "
        "| measured images/s |",
        "|" + " --- |" * 15,
    ]
    for model in _RECIPES:
        for topology in benchmark.slices:
            cells = _cells(plans.get((model, topology)))
            lines.append(f"| `{model}` | {topology} | {' | '.join(cells)} | not run |")
    some = next(iter(plans.values()), None)
    if some is not None:
        rates, chip = some["rates"], some["chip"]
        dates = sorted({plan["date"] for plan in plans.values()})
        versions = sorted(
            {
                ", ".join(f"{k} {v}" for k, v in p["versions"].items())
                for p in plans.values()
            }
        )
        lines += [
            "",
            f"Peak rates of one {chip['name']} chip ({chip['source']}): "
            f"{rates['flops'] / 1e12:.0f} TFLOP/s in bfloat16, "
            f"{rates['memory_bandwidth'] / 1e9:.0f} GB/s of memory, links of "
            f"{rates['link_bandwidth'] / 1e9:.0f} GB/s in each direction: two per chip on "
            "2x2 and 4x4, whose ends are not joined, four on 16x16.",
            "",
            f"Compiled {' and '.join(dates)} with {'; '.join(versions)}"
            + (_QUICK if benchmark.quick else "."),
        ]
    return "\n".join(lines) + "\n"


def _cells(plan: dict | None) -> list[str]:
    """From "chips" to "efficiency"."""
    if plan is None:
        return ["not run"] * 12
    step = plan["training"]
    head = [str(plan["num_devices"]), str(step["batch_size"])]
    if step["memory"] is None:
        needed = (step["out_of_memory"] or {}).get("needed")
        memory = "-" if needed is None else f"{needed / GIB:.2f}"
        return [*head, memory, "no", *["-"] * 8]
    times = step["roofline"]
    sent = sum(c["sent_bytes"] for c in step["collectives"])
    kinds = ", ".join(f"{c['count']} {c['kind']}" for c in step["collectives"])
    return [
        *head,
        f"{step['memory']['peak'] / GIB:.2f}",
        "yes" if step["fits"] else "no",
        f"{step['operations'] / 1e12:.2f}",
        f"{step['bytes_moved'] / 1e9:.1f}",
        kinds or "none",
        f"{sent / 1e6:.1f}",
        times["bound"],
        f"{times['seconds'] * 1e3:.1f}",
        f"{step['images_per_second']:,.0f}",
        f"{plan['efficiency']:.3f}, {plan['efficiency_without_overlap']:.3f}",
    ]


if __name__ == "__main__":
    cli.main(main, Benchmark())
