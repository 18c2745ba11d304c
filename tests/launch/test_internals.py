"""What is taken from inside Ray and Optuna is there, in the versions that it was read in."""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib.metadata import version

import optuna
from ray.tune.execution.tune_controller import TuneController
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search.search_generator import SearchGenerator

from launch.machines import ray_internals
from launch.samplers import optuna_internals


def kept_by(kind: type) -> set[str]:
    """The attributes that the objects of a class get in its own code."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    return {one.attr for one in ast.walk(tree) if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store)}


def test_the_inside_of_ray_is_as_it_was_read() -> None:
    assert version("ray") == ray_internals.READ_IN, "read ray_internals.py again, beside the new version"
    assert ray_internals.READ_IN in (ray_internals.__doc__ or "")
    assert {"_resetting_trials", "_trial_to_actor", "_actor_manager"} <= kept_by(TuneController)
    assert "_finished" in kept_by(SearchGenerator)
    assert list(inspect.signature(TuneController._process_trial_failure).parameters) == ["self", "trial", "exception"]
    assert inspect.isfunction(TrialProgressCallback._print)
    settings = ray_internals.PathOfWorkers.of(["/ours"])
    assert settings._py_driver_sys_path == ["/ours"]
    assert settings._runtime_env_has_working_dir() is True
    assert "_runtime_env_has_working_dir" in vars(ray_internals.JobConfig)
    assert {"start_api_server", "start_monitor", "start_log_monitor"} <= vars(ray_internals.node.Node).keys()
    assert "_webui_url" in kept_by(ray_internals.node.Node)
    assert isinstance(ray_internals.ray_constants.ENABLE_RAY_CLUSTER, bool)
    assert isinstance(ray_internals.ray_constants.NUM_REDIS_GET_RETRIES, int)
    ray_internals.forget_token()
    cores, gpus = ray_internals.cores_and_gpus()
    assert cores >= 1
    assert gpus >= 0


def test_a_failure_is_shown_before_ray_handles_it_and_only_meanwhile() -> None:
    own = TuneController._process_trial_failure
    seen = []
    with ray_internals.before_failures(lambda trial, error: seen.append((trial, str(error)))):
        assert TuneController._process_trial_failure is not own
        try:
            TuneController._process_trial_failure(None, "trial", ValueError("why"))
        except AttributeError:  # Ray's own, which has no controller here, comes after
            seen.append("ray")
    assert seen == [("trial", "why"), "ray"]
    assert TuneController._process_trial_failure is own


def test_the_inside_of_optuna_is_as_it_was_read() -> None:
    assert version("optuna") == optuna_internals.READ_IN, "read optuna_internals.py again, beside the new version"
    assert optuna_internals.READ_IN in (optuna_internals.__doc__ or "")
    study = optuna.create_study()
    asked = study.ask()
    asked.suggest_float("x", 0.0, 1.0)
    stored = optuna_internals.stored(asked)
    assert stored.params == asked.params
    assert optuna_internals.stored(asked) is stored, "no copy is made"
    again = optuna_internals.opened(study, study.get_trials(deepcopy=False)[-1])
    again.report(0.5, step=3)
    study.tell(again, 0.5)
    assert study.trials[0].intermediate_values == {3: 0.5}
    storage = optuna.storages.InMemoryStorage()
    other = optuna.create_study(storage=storage, study_name="other")
    assert storage.get_study_name_from_id(optuna_internals.id_in_storage(other)) == "other"
