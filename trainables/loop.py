"""fit(): one readable training loop for every task. It yields one EpochResult per epoch.

    for result in fit(config, data, torch.device("cpu")):
        print(result.epoch, result.metrics["val/accuracy"])

It does not use Ray: `list(fit(...))` is a whole training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.accumulation import MicroBatch, Waited, batch_mass, in_groups
from trainables.compiled import forgotten_graphs, trained_forward
from trainables.config.solved import Lbfgs
from trainables.config.trial import TrialConfig
from trainables.costs import latency_ms, num_parameters, peak_memory_mb, reset_peak_memory
from trainables.data.augment import mix_batch
from trainables.data.balanced import balanced_draws
from trainables.data.loader import TrialData, batches, passes
from trainables.data.loader_processes import Loaders
from trainables.data.merge import Merge
from trainables.data.on_device.finish import finished
from trainables.data.on_device.where import loader_transform
from trainables.data.order import epoch_size, piece_of_stream
from trainables.device import speed_up
from trainables.evaluate import evaluate
from trainables.features.features import frozen_backbone
from trainables.features.head_start import start_head
from trainables.features.probe import solve_epoch
from trainables.finite import FiniteLoss
from trainables.inference import autocast, raise_if_asked, to_input
from trainables.losses import Loss, build_loss, loss_with_aux
from trainables.optimizers import base_lr, set_lr
from trainables.parallel.processes import ranks_used, together
from trainables.parallel.ranks import Ranks
from trainables.patience import stop_early
from trainables.seeds import derived_seed, seed_everything
from trainables.state import TrainState, build_state
from trainables.targets import classes_and_labels
from trainables.tasks import TASKS
from visionsweep.core.errors import DataError, Diverged
from visionsweep.core.names import COSTS


@dataclass(frozen=True)
class EpochResult:
    """One trained and evaluated epoch.

    epoch           from 1
    metrics         fractions of one (`val/accuracy`) and losses
    seconds         of training and evaluation
    images_per_s    of training
    lr              base rate at the epoch's end
    latency_ms      of one image
    parameters      weights of the model
    peak_memory_mb  of this training so far, of the GPU or else of its process
    gpu_seconds     of all epochs so far, times the training's share of the GPU; plain seconds without a GPU
    predictions     of the validation split (see `evaluate.Evaluation`); a probe on small data adds `unseen`, of the
                    training split (see `probe.SolvedEpoch`)
    state           live, valid until the next epoch
    last            nothing follows
    reason          why it ended before its last epoch, or ''
    l2              strength of a solved head, None for any other
    waited_s        those of `seconds` in which training waited for batches
    start_s         seconds of compilation before this epoch, which are not in `seconds`
    note            a sentence for the user, '' without one
    """

    epoch: int
    metrics: dict[str, float]
    seconds: float
    images_per_s: float
    lr: float
    latency_ms: float
    parameters: int
    peak_memory_mb: float
    gpu_seconds: float
    predictions: dict[str, np.ndarray]
    state: TrainState
    last: bool
    reason: str = ""
    l2: float | None = None
    waited_s: float = 0.0
    start_s: float = 0.0
    note: str = ""

    def row(self) -> dict[str, Any]:
        """Return the result as plain values, a line of epochs.jsonl."""
        keys = ("epoch", "metrics", "seconds", "images_per_s", "lr", *COSTS)
        found = {key: getattr(self, key) for key in keys} | ({} if self.l2 is None else {"l2": self.l2})
        return found | ({"start_s": self.start_s} if self.start_s else {})


def fit(
    config: TrialConfig,
    data: TrialData,
    device: torch.device,
    *,
    resume: Callable[[TrainState], None] | None = None,
    num_workers: int = 0,
    gpu_share: float = 1.0,
    should_stop: Callable[[], str | None] | None = None,
    ranks: int = 1,
) -> Iterator[EpochResult]:
    """Train `config` on `data` and yield after every epoch.

    resume       fills a freshly built state (see `checkpoint.load_state`); None begins at the first epoch
    num_workers  loader processes, 0 loads in this one
    gpu_share    for `gpu_seconds`
    should_stop  asked before every batch; a reason ends the epoch
    ranks        processes that train each batch together, each on a GPU of its own (see `parallel/`)

    The epochs of a resumed training equal those of one that was never stopped.
    Raises Diverged when the loss is not finite, Interrupted when asked to stop, DataError when the data is too small.
    """
    size = ranks_used(config, ranks)
    each = -(-num_workers // size)
    job = config, data, device, each
    # However the training ends, its loader processes and its ranks end with it.
    with (
        Loaders(each, device, holds=True) as loaders,
        together(size, device, _follow, job) as group,
        forgotten_graphs(config),
    ):
        yield from _epochs(config, data, device, loaders, resume, gpu_share, should_stop, group)


def _follow(ranks: Ranks, config: TrialConfig, data: TrialData, device: torch.device, num_workers: int) -> None:
    """Train in a process of a rank after the first, whose training is the same and yields nothing."""
    with Loaders(num_workers, device) as loaders:
        for _ in _epochs(config, data, device, loaders, None, 1.0, None, ranks):
            pass


def _epochs(
    config: TrialConfig,
    data: TrialData,
    device: torch.device,
    loaders: Loaders,
    resume: Callable[[TrainState], None] | None,
    gpu_share: float,
    should_stop: Callable[[], str | None] | None,
    ranks: Ranks,
) -> Iterator[EpochResult]:
    # Check that the data suffices.
    classes, labels, train_targets = classes_and_labels(config, data)
    train_rows = data.dataset.indices("train")
    repeat = passes(config, len(train_rows))
    num_images = epoch_size(config, len(train_rows))
    solved = config.optimizer if isinstance(config.optimizer, Lbfgs) else None
    if config.batch_size > len(train_rows) and solved is None:
        raise DataError(
            f"batch_size {config.batch_size} is larger than the training set of {len(train_rows)} images. "
            f"Set batch_size to {len(train_rows)} or less."
        )

    # Build the state, or fill it from a checkpoint.
    speed_up(device, fixed_shapes=not isinstance(labels, Merge))
    stop = should_stop or (lambda: None)
    raise_if_asked(stop, 1)  # building a large model, or fetching its weights, takes a while
    reset_peak_memory(device)
    torch.manual_seed(config.seed)  # the new head's weights
    state = build_state(config, TASKS[config.task].num_outputs(len(classes)), device)
    if resume is not None:
        resume(state)
    train_loss = build_loss(config, train_targets, len(classes)).to(device)
    mass = batch_mass(config, train_loss)

    def ask() -> None:
        raise_if_asked(stop, state.epoch + 1)

    num_workers = loaders.num_workers
    frozen = frozen_backbone(config, state.model, data, device, num_workers=num_workers, ask=ask)
    transform = loader_transform(config, device, labels.background if isinstance(labels, Merge) else None)
    latency: float | None = None
    l2: float | None = None
    unseen: dict[str, np.ndarray] = {}
    forward = trained_forward(config, state, device, ranks.size)
    state.gpu_seconds += forward.start_s * gpu_share

    while state.epoch < config.epochs:
        # Train. Each epoch has a seed of its own, so that it depends on no random numbers before it: a resumed training
        # is the same training. No other seed of a configuration has an epoch with the same draws.
        started = time.perf_counter()
        waited_s = 0.0
        if state.epoch == 0 and ranks.leads:
            start_head(config, state, data, labels, train_loss, device, num_workers=num_workers, ask=ask)
        ranks.begin_epoch(state)
        seed = derived_seed(config.seed, state.epoch)
        seed_everything(seed)
        ranks.reseed(seed)
        if frozen is not None and solved is not None and isinstance(labels, Tensor):
            found = solve_epoch(solved, frozen, labels, train_loss, ask)
            mean_loss = found.loss
            l2 = found.l2
            unseen = found.kept(len(data.dataset.indices("val")))
        else:
            if frozen is not None and config.views is not None and isinstance(labels, Tensor):
                train_batches = frozen.batches(labels, state.epoch, seed)
            else:
                own = batches(
                    data, "train", labels, transform, config.batch_size,
                    seed=seed, repeat=repeat, accumulate=config.accumulate,
                    drawn=_drawn(config, labels, train_rows, state.epoch),
                    only=ranks.own, loaders=loaders,
                )  # fmt: skip
                train_batches = ranks.shared(own)
            groups = Waited(in_groups(train_batches, config, num_images, mass))
            trained = ranks.wrapped(forward.module, config, train_loss)
            mean_loss = _train_epoch(config, state, trained, iter(groups), num_images, train_loss, device, stop, ranks)
            waited_s = groups.seconds
        train_seconds = time.perf_counter() - started
        if not ranks.leads:
            state.epoch += 1
            continue

        # Evaluate.
        judged = evaluate(
            config, [state.weights], data, labels, device,
            loaders=loaders, stop=stop, epoch=state.epoch + 1,
            features=None if frozen is None else frozen.judged("val"),
        )  # fmt: skip
        state.epoch += 1
        metrics = {"train/loss": mean_loss, **judged.metrics}
        if not math.isfinite(metrics.get("val/loss", mean_loss)):  # no validation split, no val/loss
            raise Diverged(metrics["val/loss"], state.epoch, 0, base_lr(state.optimizer))

        # Decide whether to stop, and report.
        early = stop_early(config, state, metrics)
        if latency is None:
            latency = latency_ms(state.weights, config, device)
        seconds = time.perf_counter() - started
        state.gpu_seconds += seconds * gpu_share
        start_s, note = forward.taken()
        yield EpochResult(
            epoch=state.epoch,
            metrics=metrics,
            seconds=seconds,
            images_per_s=num_images / train_seconds,
            lr=base_lr(state.optimizer),
            latency_ms=latency,
            parameters=num_parameters(state.model),
            peak_memory_mb=peak_memory_mb(device),
            gpu_seconds=state.gpu_seconds,
            predictions={**judged.predictions, **unseen},
            state=state,
            last=bool(early) or state.epoch == config.epochs,
            reason=early, l2=l2, waited_s=waited_s, start_s=start_s, note=note,
        )  # fmt: skip
        if early:
            return


def _drawn(config: TrialConfig, labels: Tensor | Merge, rows: np.ndarray, epoch: int) -> list[list[int]] | None:
    """Return the draws of each batch of an epoch, None for those of its seed. rows: the training images."""
    balanced = balanced_draws(config, labels[torch.from_numpy(rows)], epoch) if isinstance(labels, Tensor) else None
    return piece_of_stream(config, len(rows), epoch) if balanced is None else balanced


def _train_epoch(
    config: TrialConfig,
    state: TrainState,
    trained: Callable[[Tensor], Any],
    micro_batches: Iterator[MicroBatch],
    num_images: int,
    loss_of: Loss,
    device: torch.device,
    stop: Callable[[], str | None],
    ranks: Ranks,
) -> float:
    """Train for one epoch, and return the mean loss. trained: what is called on each batch's inputs."""
    model = state.model
    scaler = state.scaler
    model.train()
    num_steps = math.ceil(num_images / (config.batch_size * config.accumulate))
    total = torch.zeros((), device=device)
    seen = 0
    pending = 0
    step = 0

    def diverged(value: float, at_step: int) -> None:
        raise Diverged(value, state.epoch + 1, at_step, base_lr(state.optimizer))

    watched = FiniteLoss(device, diverged)
    for batch in micro_batches:
        raise_if_asked(stop, state.epoch + 1)
        if pending == 0:
            set_lr(config, state.optimizer, state.epoch + step / num_steps)
            state.let_backbone_rest(config, state.epoch + step / num_steps)
        targets = batch.targets.to(device, non_blocking=True)
        if config.views is None:
            pixels, targets = finished(batch.inputs, targets, device)
            inputs = to_input(pixels, model, config, device)
            if config.augment.mix is not None:
                inputs, targets = mix_batch(config.augment.mix, inputs, targets)
        else:
            inputs = batch.inputs.to(device, non_blocking=True)  # (B, F) kept features
        images = len(inputs)
        inputs, targets = ranks.take(inputs, targets, ends_step=pending + images == batch.group_size)
        with autocast(config, device):
            output = trained(inputs)
        loss = loss_with_aux(output, targets, loss_of, config.model.aux_weight)
        watched.look(loss.detach(), step)
        loss = ranks.weighed(loss)
        # DistributedDataParallel divides by the number of ranks.
        scaler.scale(loss * (batch.share * ranks.size)).backward()  # type: ignore[no-untyped-call]
        total += loss.detach() * batch.counts
        seen = seen + images
        pending = pending + images
        if pending == batch.group_size:
            _optimizer_step(config, state)
            step = step + 1
            pending = 0
    mean = float(ranks.summed(total)) / seen
    if not math.isfinite(mean):
        diverged(mean, step)
    return mean


def _optimizer_step(config: TrialConfig, state: TrainState) -> None:
    if config.clip_grad_norm is not None:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.model.parameters(), config.clip_grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    state.num_steps += 1
    if state.ema is not None:
        state.ema.update(state.model, step=state.num_steps)
