"""The tables of `python -m segjax plan`."""

from rich.table import Table

from segjax.planning.estimate import Estimate
from segjax.planning.plan import LABEL, Plan
from segjax.report import units


def plan_tables(plan: Plan) -> tuple[Table, ...]:
    """One column per compiled step: what it needs, what it sends, how long it takes."""
    steps = {
        "training": plan.training,
        "training, one device": plan.one_device,
        "evaluation": plan.evaluation,
    }
    steps = {name: step for name, step in steps.items() if step is not None}
    tables = [
        _table("memory of one device", steps, _memory_rows(plan)),
        _table("work of one device in a step", steps, _WORK_ROWS),
    ]
    if any(step.collectives for step in steps.values()):
        tables.append(_collective_table(steps))
    if any(step.roofline for step in steps.values()):
        tables.append(
            _table(f"time of a step at peak rates ({LABEL})", steps, _TIME_ROWS)
        )
    return tuple(tables)


def plan_notes(plan: Plan) -> tuple[str, ...]:
    """Sentences under the tables, and the answers that are one number."""
    height, width = plan.crop_size
    notes = [
        f"{plan.experiment}: {plan.model}, {plan.dtype}, crops of {height}x{width}, "
        f"batch {plan.training.batch_size} on {plan.num_devices} x {plan.device_kind} "
        f"({plan.topology}), mesh "
        + ", ".join(f"{axis}={size}" for axis, size in plan.mesh.items())
    ]
    if plan.efficiency is not None:
        notes.append(
            f"efficiency against one device: {units.share(plan.efficiency)} if all "
            "communication overlaps with work, "
            f"{units.share(plan.efficiency_without_overlap)} if none does"
        )
    if plan.largest_batch is not None:
        found = plan.largest_batch
        notes.append(
            f"largest batch that fits: {found.fits}"
            + (f" (not {found.too_large})" if found.too_large is not None else "")
            + f", found with {found.compilations} more compilations"
        )
    if plan.chip is None:
        notes.append(f"no peak rates are stated for {plan.device_kind}: no times")
    else:
        notes.append(f"peak rates of {plan.chip.name}: {rates_text(plan)}")
    if plan.quick:
        notes.append("compiled with the least effort, not as for a run")
    notes.append("versions: " + ", ".join(f"{k} {v}" for k, v in plan.versions.items()))
    notes.append(f"All figures are {LABEL}.")
    return tuple(notes)


def rates_text(plan: Plan) -> str:
    """The rates of one device of the plan, with where they are from."""
    rates = plan.rates
    links = "no links"
    if rates.links is None or rates.link_bandwidth is None:
        links = "links not stated"
    elif rates.links:
        links = f"{rates.links} x {rates.link_bandwidth / 1e9:.0f} GB/s each way"
    return (
        f"{rates.flops / 1e12:.0f} TFLOP/s ({plan.dtype}), "
        f"{rates.memory_bandwidth / 1e9:.0f} GB/s memory, {links} ({plan.chip.source})"
    )


def verdict(step: Estimate) -> str:
    """Whether a step fits: "yes", "no", "not known", or by how much it does not."""
    if step.out_of_memory is not None:
        needed, available = step.out_of_memory.needed, step.out_of_memory.available
        if needed is None:
            return "no"
        return f"no: needs {units.megabytes(needed)} of {units.megabytes(available)}"
    return {True: "yes", False: "no", None: "not known"}[step.fits]


def _memory_rows(plan):
    def row(name):
        return lambda s: units.megabytes(s.memory and getattr(s.memory, name))

    capacity = plan.rates and plan.rates.memory_bytes
    return {
        "batch, all devices": lambda s: f"{s.batch_size}",
        "arguments": row("arguments"),
        "outputs": row("outputs"),
        "temporaries": row("temporaries"),
        "aliased": row("aliased"),
        "code": row("code"),
        "peak": row("peak"),
        "capacity": lambda s: units.megabytes(capacity),
        "fits": verdict,
    }


_WORK_ROWS = {
    "matrix operations": lambda s: units.gigaflops(s.operations),
    "all operations": lambda s: units.gigaflops(s.compiler_operations),
    "bytes moved": lambda s: units.megabytes(s.bytes_moved),
    "the compiler's count": lambda s: units.megabytes(s.compiler_bytes),
}
_TIME_ROWS = {
    "compute": lambda s: units.milliseconds(s.roofline and s.roofline.compute),
    "memory": lambda s: units.milliseconds(s.roofline and s.roofline.memory),
    "communication": lambda s: units.milliseconds(
        s.roofline and s.roofline.communication
    ),
    "step": lambda s: units.milliseconds(s.roofline and s.roofline.seconds),
    "bound by": lambda s: s.roofline.bound if s.roofline else units.MISSING,
    "images/s": lambda s: (
        units.MISSING if s.roofline is None else f"{s.images_per_second:,.0f}"
    ),
}


def _table(title, steps, rows):
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in steps:
        table.add_column(name, justify="right")
    for name, value in rows.items():
        table.add_row(name, *(value(step) for step in steps.values()))
    return table


def _collective_table(steps):
    table = Table(title="collectives of one device in a step", title_justify="left")
    table.add_column("")
    table.add_column("kind")
    for column in ("count", "of arrays", "sent"):
        table.add_column(column, justify="right")
    for name, step in steps.items():
        for i, total in enumerate(step.collectives):
            table.add_row(
                "" if i else name,
                total.kind,
                f"{total.count}",
                units.megabytes(total.num_bytes),
                units.megabytes(total.sent_bytes),
            )
    return table
