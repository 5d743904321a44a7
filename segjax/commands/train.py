"""`python -m segjax train`."""

from pathlib import Path
from typing import Literal

from rich.console import Console

from segjax import experiment, own_data
from segjax.class_weights import WeightsName
from segjax.configuration import Config
from segjax.errors import InputError
from segjax.training import processes
from segjax.training.workdir import Resume


def train(
    data_dir: Path | None = None,
    dataset: str = "folder",
    workdir: Path | None = None,
    prepared_dir: Path | None = None,
    taxonomy: str | None = None,
    model: str = "unet_bn",
    width: float = 0.25,
    init_from: Path | None = None,
    image_size: tuple[int, int] | None = None,
    crop_size: tuple[int, int] | None = None,
    scale_range: tuple[float, float] = (0.75, 1.5),
    flip: bool = True,
    photometric: float = 0.2,
    class_weights: WeightsName = "enet",
    steps: int = 1000,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    bad_records: Literal["stop", "skip"] = "stop",
    resume: Resume = "auto",
) -> None:
    """Trains a network on your own data, with numbers chosen for them.

    The same command again resumes a run that was stopped. The scripts in `experiments/`
    have every number as an option.

    Args:
      data_dir: folder with images/ and labels/ (or masks/), or with these two in train/
        and val/; classes.txt is made if there is none.
      dataset: another data set (`data list`), or a .toml file that mixes several.
      workdir: folder of the run. None is runs/ and the name of the data.
      prepared_dir: where prepared records lie. None is TFDS_DATA_DIR or
        ~/tensorflow_datasets.
      taxonomy: table that maps the data set's classes to others (a CSV or TSV file).
      model: name of the network; `python -m segjax models` lists them.
      width: factor on the network's channels; 1 is the paper's network.
      init_from: weights to start from: a run's folder or a .safetensors file.
      image_size: height and width that images are resized to; None is chosen from the
        data.
      crop_size: height and width of a training crop; None is chosen from the data.
      scale_range: of the random scale.
      flip: mirror half of the training images left to right.
      photometric: strength 0..1 of random brightness, contrast and saturation.
      class_weights: rule that balances rare and frequent classes.
      steps: updates.
      batch_size: images per update; None is 8, or more if there are more devices.
      learning_rate: peak learning rate of AdamW.
      seed: of initialisation, order of data and augmentation.
      dtype: of the computation.
      bad_records: stop at bad data, or skip up to 10 of them and tell.
      resume: go on with a run found in workdir; it must (not) be there: never, must.
    """
    if dataset == "folder" and data_dir is None:
        raise InputError(
            "data_dir is missing: expected --data-dir and a folder with images/ and "
            "labels/"
        )
    launch = processes.Launch()
    processes.start(launch)
    processes.keep_compiled_programs(launch)
    config = Config(
        name=(data_dir.resolve() if dataset == "folder" else Path(dataset)).stem,
        dataset=dataset,
        model=model,
        data_dir=data_dir,
        prepared_dir=prepared_dir,
        taxonomy=taxonomy,
        workdir=workdir,
        width=width,
        init_from=init_from,
        image_size=image_size,
        crop_size=crop_size or (0, 0),
        scale_range=scale_range,
        flip=flip,
        photometric=photometric,
        class_weights=class_weights,
        optimizer="adamw",
        learning_rate=learning_rate,
        schedule="cosine",
        warmup_steps=min(50, steps // 10),
        weight_decay=1e-2,
        steps=steps,
        batch_size=batch_size or 0,
        eval_batch_size=0,
        eval_every=max(1, steps // 10),
        log_every=max(1, min(20, steps // 10)),
        panels=3,
        bad_records=bad_records,
        resume=resume,
        seed=seed,
        dtype=dtype,
    )
    data = experiment.open_data(config)
    sizes = own_data.sizes_of(data)
    config = own_data.fill_in(config, sizes=sizes)
    console = Console(quiet=not processes.is_first())
    console.print(
        own_data.describe(config, data, sizes=sizes), soft_wrap=True, highlight=False
    )
    experiment.main(config, dataset=data)
    run = config.workdir or Path("runs") / config.name
    console.print(
        f"next: python -m segjax predict --run {run} --input NEW_IMAGES --output labels",
        soft_wrap=True,
        highlight=False,
    )
