"""The data of a run, opened again: by an export, a report, a refit, an ensemble."""

from __future__ import annotations

from analysis.models.run_source import cache_of, source_of
from trainables.data.formats import load_dataset, load_described
from trainables.data.loader import TrialData
from trainables.data.read_as import ReadAs
from trainables.data.same_data import require_same
from visionsweep.run_dir.run import Run
from visionsweep.run_dir.shapes import value_at


def open_run_data(
    run: Run, short_side_px: int, named: str | None = None, *, only_judged: bool = False, fetch: bool = True
) -> TrialData:
    """Return the data that a run was searched on, with the run's split.

        short_side_px  of its images
        named          where the user says that it is (`source_of`), None: where the run says
        only_judged    the validation and test images alone, each decoded when it is read. Nothing is split or cached,
                       and a file of groups need not be there
        fetch          whether what is not on this machine may be downloaded

    Raises DataError if it is gone. Raises RunError if it is no longer the same, or would be fetched from where somebody
    else says.
    """
    options = value_at(run.search, "options")
    was = value_at(run.search, "data")
    fingerprint = value_at(run.search, "data.fingerprint")
    read_as = ReadAs.of(options)
    if fetch:
        spec, cache_dir = source_of(run.search, named)
    else:  # what is only looked for on this machine may be named by anybody
        spec = named or str(value_at(run.search, "options.data"))
        cache_dir = cache_of(run.search)
    if only_judged:
        described = {**was, "val": value_at(run.search, "data.val")}
        dataset, images = load_described(
            described, spec, read_as=read_as, short_side_px=short_side_px, cache_dir=cache_dir, fetch=fetch
        )
        require_same(dataset, spec, {"fingerprint": fingerprint})  # its split is the one that was described
    else:
        dataset, images = load_dataset(
            spec,
            task=value_at(run.search, "data.task"),
            seed=options.get("seed", 0),
            **read_as.options(),
            short_side_px=short_side_px,
            cache_dir=cache_dir,
        )
        require_same(dataset, spec, was)
    return TrialData(dataset, images)
