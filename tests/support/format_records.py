"""Records of formats beyond their own examples, and what came of reading one."""

from typing import Any

import pytest

from baihua.data.drafts import Bad, Draft

MOSS_003 = {
    "conversation_id": "1",
    "meta_instruction": "你是一个助手。\n",
    "num_turns": 2,
    "chat": {
        f"turn_{number}": {
            "Human": f"<|Human|>: 问{number}<eoh>\n",
            "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
            "Commands": "<|Commands|>: None<eoc>\n",
            "Tool Responses": "<|Results|>: None<eor>\n",
            "MOSS": f"<|MOSS|>: 答{number}\n完<eom>\n",
        }
        for number in (10, 2)
    },
}
MOSS_002 = {
    "prefix": "规则",
    "num_turns": 2,
    "plain_text": "[Human]: 你好<eoh> [MOSS]: 你好！\n<eoa> [Human]: 再见<eoh> [MOSS]: 再见！<eoa> ",
}
FIREFLY = {"kind": "Couplet", "input": "上联：春回大地", "target": "下联：福满人间"}
MT_BENCH = {"question_id": 81, "category": "writing", "turns": ["写一封信", "写短些"], "reference": ["好", ""]}
VICUNA = {"question_id": 1, "text": "怎样管理时间？", "category": "generic"}
ALIGN_BENCH = {
    "question_id": 7,
    "category": "专业能力",
    "subcategory": "历史",
    "question": "隋朝何时建立？",
    "reference": "581年",
}


def talk(found: list[Draft]) -> list[tuple[str, str]]:
    """Roles and texts of the only conversation."""
    (draft,) = found
    return [(message.role, message.content) for message in draft.messages]


def why(module: Any, record: dict[str, Any], **columns: str) -> tuple[str, str]:
    """The reason and its detail with which a format refuses a record."""
    with pytest.raises(Bad) as raised:
        module.convert(record, module.Config(**columns))
    return raised.value.reason, raised.value.detail
