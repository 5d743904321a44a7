"""The verbs of `python -m segjax`."""

import re

import pytest

from segjax.__main__ import VERBS, main
from segjax.commands import models as command
from segjax.models.zoo import MODELS


def test_models_lists_every_network_with_its_parameters(capsys, monkeypatch):
    assert command.MODELS is MODELS
    # To count the parameters of all takes half a minute.
    some = ("segnet_basic", "unet", "fcn_basic_no_addition_no_dim_reduction")
    monkeypatch.setattr(command, "MODELS", {name: MODELS[name] for name in some})
    monkeypatch.setenv("COLUMNS", "80")
    command.models()
    out = capsys.readouterr().out
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    # Long descriptions go on in lines without a name.
    table = {row[1].strip(): row[2].strip() for row in rows if row[1].strip()}
    assert tuple(table) == some
    assert table["segnet_basic"] == "1,416,587"
    assert table["unet"] == "31,032,395"
    assert table["fcn_basic_no_addition_no_dim_reduction"] == "1,661,579"
    assert "max_unpool" in out
    assert "reduced_sum" in out


def test_help_names_every_verb(capsys):
    main(["--help"])
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: python -m segjax {verb} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["modles"], r"error: unknown verb 'modles': expected one of models, .*\n"),
        (["models", "--width", "wide"], r"error: .*--width.*wide.*\n"),
        (["models", "--widht", "1"], r"error: Unrecognized .*--widht.*\n"),
        (["evaluate"], r"error: .*--run.*\n"),
        (
            ["predict", "--run", "no", "--input", "no"],
            r"error: no/checkpoints: no such folder.*\n",
        ),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(args, line, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert re.fullmatch(line, capsys.readouterr().err)
