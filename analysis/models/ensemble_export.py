"""Export of an ensemble of several trials' models, which `predictor.py` reads.

config.yaml, classes.txt, metrics.json, data.json    as of one model; the configuration is the first member's
README.md, requirements.txt                          likewise; see `ensemble_card.py`
ensemble.json                                        how the members are combined, and their weights
members/TRIAL-epoch-NNNN/                            config.yaml and model.safetensors of each
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.models.card import Facts
from analysis.models.ensemble_card import NO_INTERVALS, ensemble_card
from analysis.models.export import MEMBERS, write_export
from analysis.models.export_folder import ENSEMBLE_FILE
from analysis.models.manifest import written_whole
from analysis.models.package import own_version, requirements
from analysis.models.solved_again import Heads
from trainables.config.io import dump_config, parse_config
from trainables.targets import output_classes
from visionsweep.core.errors import RunError
from visionsweep.run_dir.files import epoch_name, weights_file
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at


def export_ensemble(run: Run, ensemble: Mapping[str, Any], out: Path, heads: Heads | None = None) -> None:
    """Write the ensemble that `choose_ensemble` returned to `out`, whole or not at all.

    `heads` are those of members that were solved again. Raises RunError if weights are gone, or `out` cannot be
    written.
    """
    # Check that every member's weights are still there.
    files = []
    configs = []
    trials = {trial.trial_id: trial for trial in run.trials}
    for member in ensemble["members"]:
        file = weights_file(run.run_dir, member["trial_id"], member["epoch"])
        if not file.is_file() or member["trial_id"] not in trials:
            raise RunError(
                f"{run.run_dir}: has not kept the weights of trial {member['trial_id']}, epoch {member['epoch']}, "
                f"since its ensemble was chosen. `visionsweep ensemble {run.run_dir}` chooses anew."
            )
        files.append(file)
        configs.append(parse_config(trials[member["trial_id"]].config, f"trial {member['trial_id']}"))
    named = [{**one, "folder": f"{one['trial_id']}-{epoch_name(one['epoch'])}"} for one in ensemble["members"]]
    about = {
        "run": run.run_dir.name,
        "members": {one["folder"]: one["weight"] for one in named},
        "chosen_on": "the same validation images, on which these metrics look better than they are; see held_out",
        "held_out": ensemble["held_out"],
        **ensemble["metrics"],
        **({} if heads is None else heads.about([member["trial_id"] for member in ensemble["members"]])),
    }
    described = run.search["data"] if heads is None else heads.told["data"]
    classes = output_classes(configs[0], value_at(run.search, "data.classes"))
    # Write the files of any export, then the members, then the card.
    with written_whole(out) as new:
        write_export(new, configs[0], classes, [], about, described)
        kept = {key: ensemble[key] for key in ("combine", "threshold", "metric")}
        (new / ENSEMBLE_FILE).write_text(json.dumps({**kept, "members": named}, indent=1) + "\n")
        for config, file, one in zip(configs, files, named, strict=True):
            folder = new / MEMBERS / one["folder"]
            folder.mkdir(parents=True)
            (folder / "config.yaml").write_text(dump_config(config))
            shutil.copyfile(file, folder / "model.safetensors")
            if heads is not None:
                heads.put(one["trial_id"], folder / "model.safetensors")
        facts = Facts(
            name=run.run_dir.name,
            classes=classes,
            config=configs[0].model_copy(update={"threshold": ensemble["threshold"]}).model_dump(mode="json"),
            metrics=about,
            data=described,
            preprocessing={},
            graphs=[],
            checked_on="",
            python=platform.python_version(),
            version=own_version(),
            run=run,
            why_not=NO_INTERVALS,
        )
        (new / "README.md").write_text(ensemble_card(facts, named, ensemble["combine"]), encoding="utf-8")
        (new / "requirements.txt").write_text(requirements(with_onnx=False), encoding="utf-8")
