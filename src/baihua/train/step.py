"""One update of the weights by AdamW, and one evaluation, in a training session."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from baihua.core.log import logger
from baihua.model.examples import Example
from baihua.model.load import import_bitsandbytes
from baihua.train import guard
from baihua.train.checkpoint import Checkpoints
from baihua.train.config import TrainingConfig
from baihua.train.examples.batches import PackedBatch, make_batches
from baihua.train.layers.loss import bits_per_char
from baihua.train.parallel import accumulating, clip
from baihua.train.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class TrainingSession:
    """The objects that all steps of a training use."""

    plan: Plan
    accelerator: Accelerator
    loss_of: nn.Module
    """Nats of a batch, summed over its targets."""
    trained: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    checkpoints: Checkpoints

    def make_batches(self, examples: Sequence[Example], rows: Sequence[int]) -> list[PackedBatch]:
        """This process's batches of some rows, on its device."""
        accelerator, capacity = self.accelerator, self.plan.num_tokens_per_batch
        share = {"process": accelerator.process_index, "num_processes": accelerator.num_processes}
        return make_batches(examples, rows, capacity=capacity, device=accelerator.device, **share)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's tensor, on all of them."""
        return cast(Tensor, self.accelerator.reduce(tensor, reduction="sum"))


@dataclass(frozen=True, slots=True)
class StepResult:
    """Loss, gradient and size of one step, over all processes."""

    loss: float
    """Nats per target token."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    num_tokens: int
    num_target_tokens: int
    num_chars: int
    seconds: float
    is_skipped: bool
    """Whether the loss spiked, so that the weights were not changed."""


def take_step(
    session: TrainingSession, batches: Sequence[PackedBatch], *, recent: Sequence[float], number: int
) -> StepResult:
    """One update from all batches of a step; each target token has the same weight, whatever its batch.

    `recent` holds the losses of the steps before; a loss far above them leaves the weights unchanged and is reported
    with its rows.
    """
    accelerator, optimizer, loss_of = session.accelerator, session.optimizer, session.loss_of
    started = time.monotonic()
    counts = [[len(batch.labels_N), batch.num_tokens, batch.num_chars] for batch in batches]
    total = session.sum(torch.tensor(counts, device=accelerator.device).sum(dim=0))
    num_target_tokens, num_tokens, num_chars = total.tolist()
    losses: list[Tensor] = []
    loss_of.train()
    for index, batch in enumerate(batches):
        with accumulating(loss_of, is_last=index == len(batches) - 1, accelerator=accelerator):
            loss = loss_of(batch)
            losses.append(loss.detach())
            # Processes average their gradients; times their number, that is the sum.
            (loss * (accelerator.num_processes / num_target_tokens)).backward()
    nats = torch.stack(losses)
    found = nats.tolist()
    for value, batch in zip(found, batches, strict=True):
        guard.check_finite("loss", value, number, [batch])
    loss_per_token = session.sum(nats.sum()).item() / num_target_tokens
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    grad_norm = clip(parameters, session.plan.config.optimizer.max_grad_norm)
    guard.check_finite("gradient", grad_norm, number, batches)
    is_skipped = guard.is_spike(loss_per_token, recent)
    if is_skipped:
        worst = max(range(len(batches)), key=lambda i: found[i] / max(1, len(batches[i].labels_N)))
        message = "the loss spiked to %.3f at step %d, which is skipped; its worst batch has rows %s"
        logger.warning(message, loss_per_token, number, guard.name_rows([batches[worst]]))
    else:
        optimizer.step()
    optimizer.zero_grad()
    seconds = time.monotonic() - started
    return StepResult(loss_per_token, grad_norm, num_tokens, num_target_tokens, num_chars, seconds, is_skipped)


@torch.no_grad()
def evaluate(session: TrainingSession, examples: Sequence[Example]) -> float:
    """Bits per character of the answers; end-of-turn tokens cost bits but count no characters."""
    session.loss_of.eval()
    nats = torch.zeros((), dtype=torch.float32, device=session.accelerator.device)
    for batch in session.make_batches(examples, range(len(examples))):
        nats += session.loss_of(batch)
    return bits_per_char(session.sum(nats).item(), sum(example.target_text.num_chars for example in examples))


def make_optimizer(
    trained: Mapping[str, nn.Parameter], config: TrainingConfig, rate_factor: Callable[[str], float] = lambda name: 1.0
) -> torch.optim.Optimizer:
    """The optimizer; each group keeps its own factor of the learning rate as `rate_factor`.

    Only matrices decay: norms and biases have no reason to be small. `adamw_8bit` holds both moments in a byte each
    (arXiv 2110.02861).
    """
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained.items():
        decay = config.optimizer.weight_decay if parameter.ndim >= 2 else 0.0
        members.setdefault((rate_factor(name), decay), []).append(parameter)
    groups = [
        {"params": parameters, "weight_decay": decay, "lr": config.learning_rate * factor, "rate_factor": factor}
        for (factor, decay), parameters in members.items()
    ]
    if config.optimizer.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
    bitsandbytes = import_bitsandbytes("an optimizer of 8 bits", where="optimizer.kind")
    return bitsandbytes.optim.AdamW8bit(groups, lr=config.learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group, times the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]
