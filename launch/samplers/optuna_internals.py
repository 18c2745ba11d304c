"""All that this project takes from inside Optuna, where Optuna has no public way. Read in Optuna 5.0.0.

    Study           _storage, _study_id
    Trial           _trial_id, and its constructor, with which a study's trial is opened again
    FrozenTrial     _trial_id

With another version of Optuna, look at each of them. `tests/launch/test_internals.py` says which are no longer there.
"""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial

READ_IN = "5.0.0"


def stored(trial: optuna.Trial) -> FrozenTrial:
    """Return an open trial as its study stores it, without a copy."""
    return trial.study._storage.get_trial(trial._trial_id)


def opened(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """Return a running trial of a study, to be reported and closed. `study.ask` opens new ones alone."""
    return optuna.Trial(study, trial._trial_id)


def id_in_storage(study: optuna.Study) -> int:
    """Return the number by which a storage knows a study."""
    return study._study_id
