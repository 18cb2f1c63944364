"""`{"id", "name", "instruction", "instances": [{"input", "output"}, ...], "is_classification"}`: self-instruct."""

from typing import Any, Literal

from baihua.chat.types import Message
from baihua.core.config import Base
from baihua.data.drafts import Draft, are_turns, has_texts, list_under, optional_text, text_under, wrong_item

_TASK = {"id": "seed_task_0", "name": "antonym", "instruction": "写出下面词语的反义词"}
_INSTANCES = [{"input": "光明", "output": "黑暗"}, {"input": "勇敢", "output": "胆怯"}]
EXAMPLE = {**_TASK, "instances": _INSTANCES, "is_classification": False}

# How the prompts that made such sets mark a task without material.
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
    return has_texts(record, "instruction") and are_turns(record.get("instances"), key="output")


def convert(record: dict[str, Any], config: Config) -> list[Draft]:
    """One conversation per instance; the task's id is kept as `seed`."""
    instruction = text_under(record, config.instruction)
    instances = list_under(record, config.instances, expected="a list with an instance", reason="no_instances")
    names = {"seed": "id", "name": "name", "is_classification": "is_classification"}
    meta = {name: record[key] for name, key in names.items() if record.get(key) is not None}
    return [Draft(_read_instance(instruction, instance), meta=dict(meta)) for instance in instances]


def _read_instance(instruction: str, instance: Any) -> list[Message]:
    if not isinstance(instance, dict):
        raise wrong_item(instance, expected="an instance with input and output")
    output, material = text_under(instance, "output"), optional_text(instance, "input")
    is_given = material.strip().casefold() not in NO_INPUT
    return [Message("user", instruction, material if is_given else None), Message("assistant", output)]
