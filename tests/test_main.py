"""The verbs of `python -m segjax`."""

from segjax.__main__ import models
from segjax.models.zoo import MODELS


def test_models_lists_every_network_with_its_parameters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    models()
    out = capsys.readouterr().out
    rows = [line.split("│") for line in out.splitlines() if line.startswith("│")]
    # Long descriptions go on in lines without a name.
    table = {row[1].strip(): row[2].strip() for row in rows if row[1].strip()}
    assert set(table) == set(MODELS)
    assert table["segnet_basic"] == "1,416,587"
    assert table["unet"] == "31,032,395"
    assert table["fcn_basic_no_addition_no_dim_reduction"] == "1,661,579"
    assert "max_unpool" in out
    assert "reduced_sum" in out
