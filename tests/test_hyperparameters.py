"""What a checkpoint keeps of a model's arguments is plain, and builds the same again."""

from __future__ import annotations

import json

from rectified_lpjepa.hyperparameters import plain_hyperparameters
from rectified_lpjepa.networks import Backbone
from rectified_lpjepa.objectives import Axes, Directions, RDMReg, Target


def test_arguments_become_what_json_can_say_and_nothing_is_lost() -> None:
    objective = RDMReg(Target(p=1.0, active_fraction=0.1), Directions("eigen", 9), axes=Axes(0.5, 3))
    backbone = Backbone("resnet18", kwargs={"layers": (1, 1), "nested": {"channels": (8, 8)}})
    plain = plain_hyperparameters(objective=objective, backbone=backbone, seed=3, local_size=None)
    assert json.loads(json.dumps(plain)) == plain
    assert plain["backbone"]["kwargs"] == {"layers": [1, 1], "nested": {"channels": [8, 8]}}
    assert (plain["seed"], plain["local_size"]) == (3, None)
    assert plain["objective"]["class_path"].rpartition(".")[2] == "RDMReg"
    arguments = plain["objective"]["init_args"]
    assert arguments["target"]["active_fraction"] == 0.1
    assert arguments["directions"] == {"kind": "eigen", "num": 9, "redrawn": True}
    assert arguments["axes"] == {"weight": 0.5, "num": 3}
