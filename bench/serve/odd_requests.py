"""Unusual but valid requests, which pass validation and reach renderer, tokenizer and engine."""

import json
import random
from typing import Any

TEXTS = [
    *("", " ", "\n", "\u202e", "\ufeff", "\0", "<|im_end|>\n<|im_start|>system", "[INST]", "{{7*7}}", "长" * 120),
    *(
        "👨‍👩‍👧‍👦",
        "𠮷𡃁",
        "e\u0301" * 20,
        "\ue000\ue001",
        "ﷺ",
        "\u200d",
        "a" * 600,
        "\r\n\r\n",
        "\\x00",
        "%s%n",
        "\U0010ffff",
    ),
]
SCHEMAS: list[Any] = [
    {"type": "object", "properties": {}, "additionalProperties": False},
    {"type": "array", "items": {"type": "integer"}, "minItems": 0, "maxItems": 3},
    {"enum": ["晴", None, 1.5, True]},
    {"const": '"\\'},
    {"type": ["string", "null"]},
    {"type": "string", "maxLength": 0},
    {"type": "string", "pattern": "^[0-9]{2,}$"},
    {"type": "string", "pattern": "(((("},
    {"$ref": "#/definitions/none"},
    {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5, "maximum": 2}]},
    {"type": "number", "minimum": 1e300},
    {"type": "object", "properties": {"天气": {"$ref": "#"}}, "required": ["天气"]},
    {"allOf": []},
    {"oneOf": [{}, {}]},
    {"not": {"type": "null"}},
    {"type": "string", "pattern": "^(a|b|(c{1,99}){1,99}){1,99999}$"},
    {"type": "object", "patternProperties": {"^[一-龥]+$": {"$ref": "#"}}, "minProperties": 2},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "\0"},
    {"x-guidance": {"whitespace_pattern": "((", "lenient": True}},
    {"x-guidance": 5},
]
GRAMMARS = [
    'root ::= "好"',
    "root ::= [一-龥]{2}",
    "root ::= root",
    'root ::= ""',
    "root ::= a",
    'x ::= "a"',
    'root ::= "a"{0,99999}',
    'root ::= ("a"*)*',
    "root ::= [^\\x00-\\x7f]",
    'root ::= "\\U0001F600"',
    "# 只有注释",
    "root ::= [",
    'root ::= "a" | root "b"',
    *(
        f"%llguidance {line}"
        for line in (
            "{}\nstart: /[一-龥]{2}/",
            '{}\nstart: "好" start | ""',
            "{}\nstart: start",
            "{}\nstart: /(a|b)*a(a|b){60}/",
            '{}\nstart: "a"{0,99999}',
            "{}\nstart: nowhere",
            "{}\nstart: <|im_end|>",
            "{}\nstart: <[0-99999999]>",
            '{}\nstart: %json {"type": "nonsense"}',
            '{}\nstart: gen\ngen[capture, max_tokens=2, stop="\\n"]: /.*/',
            "{",
            "",
            '{"no_forcing": 5}\nstart: /a/',
        )
    ),
]
NUMBERS: dict[str, list[float]] = {
    "temperature": [0, 1e-9, 2],
    "top_p": [1e-9, 0.5, 1],
    "top_k": [0, 1, 2**31 - 1],
    "min_p": [0, 1],
    "seed": [0, 1, 2**31, 2**32 - 2],
    "presence_penalty": [-2, 2],
    "frequency_penalty": [-2, 2],
    "repeat_penalty": [1.0, 1.5],
    "max_tokens": [1, 2, 3],
    "top_logprobs": [0, 20],
}


def odd_request(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """The path and body of a random request."""
    body: dict[str, Any] = {"model": "m", "max_tokens": 2, "stream": rng.random() < 0.4}
    body |= {name: rng.choice(NUMBERS[name]) for name in rng.sample(sorted(NUMBERS), rng.randint(0, 4))}
    if "top_logprobs" in body:
        body["logprobs"] = True
    if rng.random() < 0.3:
        body["stop"] = [text for text in rng.sample(TEXTS, 2) if 0 < len(text) <= 256]
    body["messages"] = [{"role": "user", "content": rng.choice(TEXTS)} for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.3:
        body["messages"].insert(0, {"role": "system", "content": rng.choice(TEXTS)})
    kind = rng.random()
    if kind < 0.2:
        body["grammar"] = rng.choice(GRAMMARS)
    elif kind < 0.4:
        schema = json.loads(json.dumps(rng.choice(SCHEMAS)))
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return "/v1/chat/completions", body
