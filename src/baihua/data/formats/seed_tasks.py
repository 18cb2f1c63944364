"""`{"id", "name", "instruction", "instances": [{"input", "output"}, ...], "is_classification"}`: self-instruct."""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.formats.messages import are_turns, refuse_turn
from baihua.data.formats.text import explain, find_wrong_text
from baihua.data.rows import Bad, Draft

EXAMPLE = {
    "id": "seed_task_0",
    "name": "antonym",
    "instruction": "写出下面词语的反义词",
    "instances": [{"input": "光明", "output": "黑暗"}, {"input": "勇敢", "output": "胆怯"}],
    "is_classification": False,
}

# How the prompts that made such sets say that a task needs no material.
NO_INPUT = frozenset({"", "<noinput>", "<无输入>"})


class Config(Base):
    """A task with its instances."""

    kind: Literal["seed_tasks"] = "seed_tasks"
    """The name of this format."""
    instruction: str = "instruction"
    """The key of the task."""
    instances: str = "instances"
    """The key of the list of instances, each with `output` and perhaps `input`."""


def fits(record: dict[str, Any]) -> bool:
    """Whether there is an instruction with instances."""
    return isinstance(record.get("instruction"), str) and are_turns(record.get("instances"), key="output")


def convert(record: dict[str, Any], config: Config) -> list[Draft] | Bad:
    """One conversation per instance; the task's id is kept as `seed`."""
    wrong = find_wrong_text(record, (config.instruction,))
    if wrong:
        return wrong
    instances = record.get(config.instances)
    if not isinstance(instances, list) or not instances:
        return Bad("no_instances", explain(record, (config.instances,), wanted="a list with an instance"))
    names = {"seed": "id", "name": "name", "is_classification": "is_classification"}
    meta = {name: record[key] for name, key in names.items() if record.get(key) is not None}
    drafts: list[Draft] = []
    for instance in instances:
        messages = _read_instance(record[config.instruction], instance)
        if isinstance(messages, Bad):
            return messages
        drafts.append(Draft(messages, meta=dict(meta)))
    return drafts


def _read_instance(instruction: str, instance: Any) -> list[Message] | Bad:
    if not isinstance(instance, dict):
        return refuse_turn(instance, wanted="an instance with input and output")
    wrong = find_wrong_text(instance, ("output",), ("input",))
    if wrong:
        return wrong
    material = instance.get("input") or ""
    is_given = material.strip().casefold() not in NO_INPUT
    return [Message("user", instruction, material if is_given else None), Message("assistant", instance["output"])]
