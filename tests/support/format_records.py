"""Records of formats beside their own examples, and what came of reading one."""

from baihua.data.rows import Bad, Draft

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


def drafts(found: list[Draft] | Bad) -> list[Draft]:
    """What was read, where something was."""
    assert not isinstance(found, Bad), found
    return found


def talk(found: list[Draft] | Bad) -> list[tuple[str, str]]:
    """Roles and texts of the only conversation."""
    (draft,) = drafts(found)
    return [(message.role, message.content) for message in draft.messages]


def why(found: list[Draft] | Bad) -> tuple[str, str]:
    """The reason and its detail, where nothing was read."""
    assert isinstance(found, Bad)
    return found.reason, found.detail
