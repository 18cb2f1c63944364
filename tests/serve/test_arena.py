"""The arena's server: blind until the vote, durable votes, and sets of questions."""

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from cli_runs import run_here
from live_server import live

from baihua.backends.replay import ReplayChat
from baihua.chat.types import Message, Piece, Sampling, Usage
from baihua.core.errors import InputError, RunError, TooLongError
from baihua.data.formats.questions import Question
from baihua.serve.arena.app import make_arena
from baihua.serve.arena.battles import Battles
from baihua.serve.arena.votes import Votes, make_table, read_votes

NAMES = ("secret-small", "secret-big")
SHARED = Path(__file__).parents[3] / "shared" / "data"


class FailingChat:
    """Sends one piece, then fails with an error that contains its name, or waits for `go`."""

    def __init__(self, name: str, error: RunError | TooLongError | None) -> None:
        self.name = name
        self.error = error
        self.go = threading.Event()
        self.was_left = threading.Event()

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> Iterator[Piece]:
        """The script."""
        try:
            yield Piece("一")
            if self.error:
                raise self.error
            while not self.go.wait(0.01):
                yield Piece("")
            yield Piece("", "stop", Usage(1, 1))
        finally:
            self.was_left.set()

    def close(self) -> None:
        """Nothing to free."""


def make(folder: Path, *, models: Any = None, questions: Sequence[Question] = (), max_open: int = 200) -> Battles:
    given = models or {name: ReplayChat({None: f"答{number}。" * 5}, name=name) for number, name in enumerate(NAMES)}
    votes = Votes(folder / "votes.jsonl")
    by_id = {question.id: question for question in questions}
    return Battles(given, votes, questions=by_id, sampling=Sampling(), rng=random.Random(0), max_open=max_open)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[httpx.Client]:
    with live(make_arena(make(tmp_path), key=None)) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def begin(web: httpx.Client, question_id: str | None = None) -> str:
    return web.post("/arena/battles", json={"question_id": question_id}).json()["battle"]


def ask(web: httpx.Client, battle: str, text: str = "问") -> list[Any]:
    with web.stream("POST", f"/arena/battles/{battle}/ask", json={"text": text}) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def vote(web: httpx.Client, battle: str, which: str = "a") -> httpx.Response:
    return web.post(f"/arena/battles/{battle}/vote", json={"vote": which})


def test_both_answer_side_by_side_and_the_vote_reveals_the_models(web: httpx.Client, tmp_path: Path) -> None:
    battle = begin(web)
    events = ask(web, battle)
    texts = {side: "".join(e.get("delta", "") for e in events if e["side"] == side) for side in "ab"}
    assert all(texts.values())
    found = vote(web, battle, "b").json()
    assert {found["a"], found["b"]} == set(NAMES)
    assert found["num_votes"] == 1
    row = json.loads((tmp_path / "votes.jsonl").read_text(encoding="utf-8"))
    assert (row["vote"], row["model_a"], row["model_b"], row["num_turns"]) == ("b", found["a"], found["b"], 1)
    assert row["messages_a"] == [{"role": "user", "content": "问"}, {"role": "assistant", "content": texts["a"]}]
    assert texts["a"] == f"答{NAMES.index(found['a'])}。" * 5


def test_no_name_is_sent_before_the_vote(tmp_path: Path) -> None:
    wrong = RunError("secret-small is broken", where="/models/secret-small")
    models = {NAMES[0]: FailingChat(NAMES[0], wrong), NAMES[1]: FailingChat(NAMES[1], TooLongError("secret-big"))}
    with live(make_arena(make(tmp_path, models=models), key=None)) as url, httpx.Client(base_url=url) as client:
        battle = begin(client)
        seen = client.get("/arena/state").text + battle + json.dumps(ask(client, battle))
    assert "secret" not in seen
    assert "this model failed" in seen and "the conversation is too long" in seen


def test_more_turns_keep_both_conversations(web: httpx.Client, tmp_path: Path) -> None:
    battle = begin(web)
    for text in ("一", "二", "三"):
        ask(web, battle, text)
    vote(web, battle, "tie")
    row = read_votes(tmp_path / "votes.jsonl")[0]
    assert row["num_turns"] == 3
    assert [turn["content"] for turn in row["messages_b"][::2]] == ["一", "二", "三"]


def test_what_cannot_be_voted_on_is_refused(web: httpx.Client) -> None:
    battle = begin(web)
    assert vote(web, battle).json()["error"]["code"] == "not_answered"
    ask(web, battle)
    assert vote(web, battle, "c").status_code == 400
    assert vote(web, battle).status_code == 200
    assert vote(web, battle).json()["error"]["code"] == "already_voted"
    again = web.post(f"/arena/battles/{battle}/ask", json={"text": "x"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_voted")
    assert vote(web, "none").json()["error"]["code"] == "not_found"
    assert web.post("/arena/battles", json={"question_id": "none"}).status_code == 404


def test_leaving_cancels_both_answers_and_allows_another_question(tmp_path: Path) -> None:
    models = {name: FailingChat(name, None) for name in NAMES}
    with live(make_arena(make(tmp_path, models=models), key=None)) as url, httpx.Client(base_url=url) as client:
        battle = begin(client)
        with client.stream("POST", f"/arena/battles/{battle}/ask", json={"text": "问"}) as response:
            chunks = response.iter_raw()  # without a name it would be closed here, and the connection with it
            next(chunks)
            busy = httpx.post(f"{url}/arena/battles/{battle}/ask", json={"text": "再"})
            assert busy.json()["error"]["code"] == "still_answering"
            assert httpx.post(f"{url}/arena/battles/{battle}/vote", json={"vote": "a"}).status_code == 409
        for model in models.values():
            assert model.was_left.wait(30)
            model.go.set()
        deadline = time.monotonic() + 30
        while vote(client, battle).status_code != 200:
            assert time.monotonic() < deadline


def test_pairs_that_met_least_meet_next_and_sides_are_drawn(tmp_path: Path) -> None:
    models = {name: ReplayChat({None: "好"}, name=name) for name in "pqrs"}
    found = make(tmp_path, models=models)
    drawn = [tuple(side.model.name for side in found.begin(None).sides.values()) for _ in range(60)]
    counts = {frozenset(pair): sum(set(pair) == set(one) for one in drawn) for pair in drawn}
    assert set(counts.values()) == {10} and len(counts) == 6
    assert {pair for pair in drawn if set(pair) == {"p", "q"}} == {("p", "q"), ("q", "p")}
    found.votes.close()


def test_old_battles_are_forgotten(tmp_path: Path) -> None:
    found = make(tmp_path, max_open=3)
    first = found.begin(None)
    for _ in range(3):
        found.begin(None)
    with pytest.raises(Exception, match="unknown battle: it expired"):
        found.find(first.id)
    found.votes.close()


def test_twenty_battles_at_once(web: httpx.Client) -> None:
    def fight(number: int) -> int:
        battle = begin(web)
        ask(web, battle, f"问{number}")
        return vote(web, battle, "both_bad").status_code

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(fight, range(20))) == {200}
    table = web.get("/arena/table").json()
    assert (table["num_votes"], [row["num_both_bad"] for row in table["rows"]]) == (20, [20, 20])


def test_a_set_of_questions_continues_after_a_restart(tmp_path: Path) -> None:
    questions = [Question("q1", ("水是什么？",), "常识"), Question("q2", ("火是什么？",))]
    for number, question in enumerate(questions):
        app = make_arena(make(tmp_path, questions=questions), key=None)
        with live(app) as url, httpx.Client(base_url=url) as client:
            state = client.get("/arena/state").json()["questions"]
            assert (state["num"], state["num_done"], state["next"]["id"]) == (2, number, question.id)
            battle = begin(client, question.id)
            ask(client, battle, question.text)
            vote(client, battle)
            after = client.get("/arena/state").json()["questions"]
    assert after == {"num": 2, "next": None, "num_done": 2}
    assert [row["category"] for row in read_votes(tmp_path / "votes.jsonl")] == ["常识", None]


WRITER = """
import sys
from pathlib import Path
from baihua.serve.arena.votes import Votes
votes = Votes(Path(sys.argv[1]))
number = 0
while True:
    votes.add({"model_a": "a", "model_b": "b", "vote": "tie", "number": number, "text": "长" * 5000})
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("delay", [0.01, 0.03, 0.08])
def test_no_vote_is_lost_by_a_kill(tmp_path: Path, delay: float) -> None:
    file = tmp_path / "votes.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.kill()
        confirmed = [int(line) for line in process.stdout.read().split()]
    votes = Votes(file)
    votes.add({"model_a": "a", "model_b": "b", "vote": "a"})
    votes.close()
    found = [row.get("number") for row in read_votes(file)]
    assert found[: len(confirmed) + 1] == list(range(len(confirmed) + 1))
    assert found[-1] is None


def test_a_torn_line_is_skipped_and_not_continued(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "votes.jsonl"
    whole = '{"model_a": "a", "model_b": "b", "vote": "b"}'
    file.write_text(whole + "\n" + whole[:20], encoding="utf-8")
    votes = Votes(file)
    votes.add({"model_a": "a", "model_b": "b", "vote": "a"})
    votes.close()
    assert [row["vote"] for row in read_votes(file)] == ["b", "a"]
    assert "votes.jsonl:2: skipped a vote that was not completely written" in caplog.text


def test_a_file_of_votes_has_one_arena_and_only_votes(tmp_path: Path) -> None:
    votes = Votes(tmp_path / "votes.jsonl")
    with pytest.raises(InputError, match="another arena is writing to this vote file"):
        Votes(tmp_path / "votes.jsonl")
    votes.close()
    (tmp_path / "other.jsonl").write_text('{"question": "x"}\n')
    with pytest.raises(InputError, match=r"not a vote: expected model_a, model_b, vote.*\n.*other\.jsonl:1"):
        read_votes(tmp_path / "other.jsonl")


def test_the_table_counts_and_rates() -> None:
    votes = [{"model_a": "x", "model_b": "y", "vote": one} for one in ("a", "a", "b", "tie", "both_bad")]
    votes += [{"model_a": "y", "model_b": "x", "vote": "b"}]
    found = make_table(votes, ["x", "y", "z"])
    first, second, absent = found["rows"]
    assert (first["model"], first["num_wins"], first["num_losses"], first["num_ties"], first["num_both_bad"]) == (
        *("x", 3, 1, 1, 1),
    )
    assert second["num_wins"] == 1 and first["rating"] > 1000 > second["rating"]
    assert first["low"] <= first["rating"] <= first["high"]
    assert (absent["model"], absent["rating"], absent["num_battles"]) == ("z", None, 0)
    assert found["pairs"] == [{"a": "x", "b": "y", "a_wins": 3, "b_wins": 1, "ties": 1, "both_bad": 1}]
    assert found["note"] == "few_votes"
    assert make_table([])["rows"] == []
    apart = [{"model_a": "p", "model_b": "q", "vote": "a"}, *votes]
    assert make_table(apart)["note"] == "not_connected"


def test_the_verb_prints_a_table_and_refuses_what_is_no_arena(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "votes.jsonl"
    missing = run_here(capsys, "arena", "--table", "--votes", str(file))
    assert (missing.status, missing.errors()[0]) == (2, "error: there are no votes yet")
    file.write_text('{"model_a": "甲", "model_b": "乙", "vote": "a"}\n' * 40, encoding="utf-8")
    found = run_here(capsys, "arena", "--table", "--votes", str(file), "--json")
    assert [row["model"] for row in found.json["rows"]] == ["甲", "乙"]
    assert "甲" in run_here(capsys, "arena", "--table", "--votes", str(file)).out
    alone = run_here(capsys, "arena", "x.gguf")
    assert (alone.status, alone.errors()[0]) == (2, "error: an arena needs two models")
