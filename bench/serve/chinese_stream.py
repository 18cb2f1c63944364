"""Streaming of emoji and rare characters whose bytes are split between tokens.

Usage: python bench/serve/chinese_stream.py MODEL.gguf [--num 500] [--seed 0] [--threads 1]

Starts `baihua serve` and sends one request at a time, each twice with the same seed: streamed and whole. Grammars
force characters that most models would not generate: CJK extensions B and G, joined emoji, skin tones, variation
selectors, full-width punctuation. The model chooses among the request's characters, so seeds matter; every twentieth
request is repeated with another seed to prove it. About half of the answers are cut off by `max_tokens`, often within a
character. Requests with a seed do not use the prompt cache, so no state is left from the previous one.

Required, otherwise the exit status is 1: streamed and whole answers are equal, with the same finish reason and usage;
each event is valid UTF-8 and JSON without lone surrogates; there is no U+FFFD; the text consists of the alphabet;
another seed changes some answers.
"""

import argparse
import collections
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from server import CHAT, ask, delta_of, serving

ALPHABETS = {
    "extension B and later": ["𠮷", "𡃁", "𠀀", "𪚥", "𠜎", "𠱓", "𫝀", "𰻝", "𰻞", "𱁬"],
    "emoji": ["😀", "🀄", "🥟", "🇨🇳", "❤️", "1️⃣", "🧧", "🐉"],
    "joined": ["👨‍👩‍👧‍👦", "👩🏽‍💻", "🏳️‍🌈", "👍🏿", "🧑🏻‍🤝‍🧑🏿", "🤦🏼‍♀️"],
    "selectors": ["葛\U000e0100", "辻\U000e0101", "︎", "々", "〇", "ㄅ"],
    "full-width": ["，", "。", "！", "？", "「", "」", "“", "”", "…", "—", "《", "》", "　", "％", "Ａ"],
    "simplified": list("龙门发后里云体饭马鸟"),
    "traditional": list("龍門發後裡雲體飯馬鳥龘靐"),
    "plain": ["a", "0", " ", "é", "ñ", "한", "あ"],
}
LOST = "\ufffd"
RARE = "extension B and later"


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and the characters allowed in its answer."""

    units: list[str]
    body: dict[str, Any]

    def admits(self, text: str, *, is_cut: bool) -> bool:
        """Whether a text consists of units; one that was cut off may end within a unit."""
        units = sorted(self.units, key=len, reverse=True)
        begun = {unit[:end] for unit in units for end in range(1, len(unit))} if is_cut else set()
        either = "|".join(map(re.escape, units))
        last = "|".join(map(re.escape, sorted(begun, key=len, reverse=True)))
        return re.fullmatch(f"(?:{either})*(?:{last})?", text) is not None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, streamed or not."""

    text: str
    finish_reason: str
    usage: dict[str, int]


def main() -> int:
    """Ask, compare and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    started = time.monotonic()
    with (
        serving(
            f"m={arguments.model}", "--slots", "1", "--context", "1024", "--threads", str(arguments.threads)
        ) as server,
        httpx.Client(base_url=server.url, timeout=120) as client,
    ):
        for number in range(arguments.num):
            case = make_case(rng, seed=number)
            wrong += [f"reply {number}: {problem}" for problem in compare(client, case, counts)]
            if number % 20 == 0:
                counts["asked with another seed"] += 1
                other = ask_whole(client, case.body | {"seed": 1_000_000 + number})
                counts["another seed, another text"] += other != ask_whole(client, case.body)
    for name in sorted(counts):
        print(f"{name:<40}{counts[name]:>8,}")
    print(f"{'seconds':<40}{time.monotonic() - started:>8.0f}")
    if not counts["another seed, another text"]:
        wrong.append("no answer changed with its seed, so equal seeds prove nothing")
    print(*wrong[:20], sep="\n")
    print(f"{len(wrong)} wrong")
    return int(bool(wrong))


def make_case(rng: random.Random, *, seed: int) -> Case:
    """A request with its own alphabet; each answer has a character of an extension, unless it is cut off before."""
    rare = sorted(rng.sample(ALPHABETS[RARE], 3))
    joined = sorted(rng.sample(ALPHABETS["joined"], 1))
    pool = [unit for name, units in ALPHABETS.items() if name != RARE for unit in units]
    units = sorted({*rng.sample(pool, rng.randint(3, 12)), *joined})
    either = " | ".join(json.dumps(one, ensure_ascii=False) for one in units)
    # GBNF in llama.cpp would allow overlong forms (F0 84 BD A0 for 你), which are invalid UTF-8.
    grammar = f"%llguidance {{}}\nstart: rare unit{{1,3}} rare unit{{0,2}}\nrare: /[{''.join(rare)}]/\nunit: {either}"
    max_tokens = rng.choice([rng.randint(3, 30), 300])
    question = rng.choice(["写几个字", "Draw something.", "来点表情", "接着写"])
    # A high temperature over the whole vocabulary; otherwise the model would always choose the same character.
    body = ask(question, grammar=grammar, max_tokens=max_tokens, seed=seed, temperature=1.5, top_k=0, top_p=1.0)
    return Case([*rare, *units], body)


def compare(client: httpx.Client, case: Case, counts: collections.Counter[str]) -> Iterator[str]:
    """Request both ways; yield what is wrong."""
    parts: list[str] = []
    try:
        streamed = ask_streamed(client, case.body, parts)
        whole = ask_whole(client, case.body)
    except (ValueError, KeyError, httpx.HTTPError) as error:
        yield f"{error!r}"
        return
    is_cut = whole.finish_reason == "length"
    is_lost = any(LOST in text for text in (*parts, whole.text))
    counts["replies"] += 1
    counts["cut by max_tokens"] += is_cut
    counts["equal"] += streamed == whole
    counts["deltas with text"] += len(parts)
    counts["with U+FFFD"] += is_lost
    counts["replies with a character beyond the BMP"] += any(ord(one) > 0xFFFF for one in whole.text)
    for one in whole.text:
        counts[f"characters of plane {ord(one) >> 16:>2}"] += 1
    if streamed != whole:
        yield f"stream {streamed} is not whole {whole}"
    if is_lost:
        yield f"U+FFFD in {parts} or {whole.text!r}"
    if not case.admits(whole.text, is_cut=is_cut):
        yield f"{whole.text!r} is not made of {case.units}"


def ask_whole(client: httpx.Client, body: dict[str, Any]) -> Reply:
    """The answer without streaming."""
    answer = client.post(CHAT, json=body)
    answer.raise_for_status()
    found = json.loads(answer.content.decode("utf-8"))
    choice = found["choices"][0]
    choice["message"]["content"].encode("utf-8")
    return Reply(choice["message"]["content"], choice["finish_reason"], found["usage"])


def ask_streamed(client: httpx.Client, body: dict[str, Any], parts: list[str]) -> Reply:
    """The streamed answer, each text added to `parts`; a ValueError if an event is not valid by itself."""
    more = {"stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", CHAT, json=body | more) as answer:
        data = answer.read()
        answer.raise_for_status()
    finish_reason, usage = "", {}
    *events, end = data.split(b"\n\n")
    if end or events[-1] != b"data: [DONE]":
        raise ValueError(f"the stream ends with {data[-80:]!r}")
    for raw in events[:-1]:
        event = read_event(raw)
        for choice in event.get("choices", []):
            finish_reason = choice["finish_reason"] or finish_reason
        usage = event.get("usage") or usage
        if "choices" in event and (text := delta_of(event)):
            # Half of a surrogate pair would be JSON, but no text.
            text.encode("utf-8")
            parts.append(text)
    return Reply("".join(parts), finish_reason, usage)


def read_event(raw: bytes) -> dict[str, Any]:
    """One event, which must be valid UTF-8; a comment is empty."""
    text = raw.decode("utf-8")
    if text.startswith(":"):
        return {}
    return json.loads(text.removeprefix("data: "))


if __name__ == "__main__":
    sys.exit(main())
