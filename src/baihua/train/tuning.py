"""Instruction tuning: conversations train a model to answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from baihua.chat.template import open_template
from baihua.core.log import logger
from baihua.model.examples import Encoder
from baihua.modelfiles.folder import vocabulary_fingerprint
from baihua.modelfiles.shape import shape_of
from baihua.train.config import TrainingConfig
from baihua.train.examples.encode import load_examples
from baihua.train.examples.preview import show_examples
from baihua.train.loop import open_accelerator, remove_checkpoints, train
from baihua.train.methods import find_method
from baihua.train.metrics import check_trackers
from baihua.train.plan.device import measure_speed, peak_memory_bytes
from baihua.train.plan.memory import operations_per_token
from baihua.train.plan.plan import plan_training


def tune(config: TrainingConfig, inputs: Mapping[str, Path], out: Path) -> dict[str, Any]:
    """Write the adapter or the tuned model to `out`; returns the figures of data and training.

    `inputs` are the folders `model`, `data` and, optionally, `heldout`.
    """
    check_trackers(config.running.trackers)
    accelerator, model_folder = open_accelerator(), inputs["model"]
    tokenizer, template = open_template(config.template, model_folder)
    vocabulary, encoder = vocabulary_fingerprint(model_folder), Encoder(tokenizer, template, config.examples.train_on)
    with accelerator.main_process_first():
        data = load_examples(inputs["data"], encoder, config, vocabulary)
        # Held-out rows always count all answers, whatever is trained: they measure how well the model answers.
        encoder = Encoder(tokenizer, template)
        heldout = load_examples(inputs["heldout"], encoder, config, vocabulary).kept if "heldout" in inputs else ()
    if accelerator.is_main_process:
        logger.info("%s", data.describe())
        show_examples(data.kept, tokenizer, num_shown=config.examples.num_shown)
    device, num_processes = accelerator.device, accelerator.num_processes
    plan, work = plan_training(config, shape_of(model_folder), data, device=device, num_processes=num_processes)
    method = find_method(config.method.kind)
    base = method.load(model_folder, precision=plan.precision, device=device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = method.prepare(base, config.method)
    result = train(model, data.kept, heldout=heldout, out=out, plan=plan)
    if accelerator.is_main_process:
        method.save(model, out, base=model_folder, jinja=template.jinja, state=result.state)
        remove_checkpoints(out)
    figures = result.figures | data.statistics()
    if "tokens_per_second" in figures:
        # The share of the devices' measured peak that the operations come to, recomputation included.
        peak = measure_speed(device, plan.precision) * num_processes
        figures["mfu"] = figures["tokens_per_second"] * operations_per_token(work) / peak
    return figures | {
        "num_trainable": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "peak_memory_bytes": peak_memory_bytes(),
        "precision": plan.precision,
        "num_threads": torch.get_num_threads(),
    }
