"""Data sets from hubs: against servers of this process, and from the hub's own cache."""

import json
from pathlib import Path
from typing import Any

import pytest
from data_stages import run_stage
from fakes import talk, write_lines
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from baihua.core.errors import InputError
from baihua.data.read import catalog
from baihua.data.read.files import check_name, find_origins, from_hub, from_modelscope

NAME = "baihua/talks"
COMMIT = "c0ffee" * 6 + "c0ff"
FILES = ["data/train.jsonl", "data/test.jsonl", "more.csv", "evil.py", "README.md"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as its publisher has it."""
    for name in FILES:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        write_lines(tmp_path / "set" / name, [talk(name, "答")])
    return tmp_path / "set"


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def cache_snapshot(home: Path, folder: Path) -> None:
    """What the hub's client leaves in its cache."""
    base = home / "hub" / f"datasets--{NAME.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    (base / "snapshots").mkdir()
    folder.rename(base / "snapshots" / COMMIT)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's client without a network, with a cache of its own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path / "home"


def test_a_cached_data_set_opens_without_a_network(offline: Path, folder: Path, tmp_path: Path) -> None:
    cache_snapshot(offline, folder)
    (origin,) = find_origins([f"hub:{NAME}:data"], tmp_path, source=None, licence=None)
    assert [file.name for file in origin.files] == ["test.jsonl", "train.jsonl"]
    assert origin.source == NAME


def test_a_catalogue_entry_brings_its_name_and_licence(
    offline: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = catalog.find("belle_1m").model_copy(update={"hub": NAME, "path": "data", "licence": "CC-BY-4.0"})
    monkeypatch.setattr(catalog, "load", lambda: {"talks": entry})
    cache_snapshot(offline, folder)
    (origin,) = find_origins(["catalog:talks"], tmp_path, source=None, licence=None)
    assert (origin.source, origin.licence, len(origin.files)) == ("talks", "CC-BY-4.0", 2)


def test_a_data_set_that_is_not_there_is_an_error(offline: Path) -> None:
    with pytest.raises(InputError, match=r"cannot download the data set: .*\n  where: hub:baihua/none\n  fix: "):
        from_hub("baihua/none", None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hub:talks", r"invalid hub address\n  where: hub:talks\n  fix:   write it as hub:ORG/NAME"),
        ("modelscope:a/b c", "invalid hub address"),
        ("catalog:bele_1m", r"unknown data collection 'bele_1m'; did you mean 'belle_1m'\?"),
        (
            "catalog:alpaca_zh_en",
            r"in the catalogue, but is not known to be on a hub\n.*\n  fix:   download it yourself",
        ),
    ],
)
def test_a_name_that_means_nothing_is_refused_before_any_download(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_name(name)


def serve_modelscope(server: HTTPServer, folder: Path, *, page_size: int) -> None:
    files = [name for name in names(folder) if name]
    entries: list[dict[str, Any]] = [{"Path": n, "Type": "blob", "Size": (folder / n).stat().st_size} for n in files]
    entries = [{"Path": "data", "Type": "tree"}, *entries, {"Path": "../evil.jsonl", "Type": "blob", "Size": 1}]

    def listing(request: Request) -> Response:
        start = (int(request.args["PageNumber"]) - 1) * page_size
        return Response(json.dumps({"Code": 200, "Data": {"Files": entries[start : start + page_size]}}))

    def send(request: Request) -> Response:
        return Response((folder / request.args["FilePath"]).read_bytes())

    server.expect_request(f"/api/v1/datasets/{NAME}/repo/tree").respond_with_handler(listing)
    server.expect_request(f"/api/v1/datasets/{NAME}/repo").respond_with_handler(send)


def test_modelscope_gives_data_files_only_page_by_page(
    httpserver: HTTPServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("baihua.core.modelscope.NUM_FILES_PER_PAGE", 3)
    serve_modelscope(httpserver, folder, page_size=3)
    found = from_modelscope(NAME, None, None, tmp_path / "c", endpoint=httpserver.url_for(""))
    assert names(found) == ["data/test.jsonl", "data/train.jsonl", "more.csv"]
    part = from_modelscope(NAME, "v1", "data", tmp_path / "c", endpoint=httpserver.url_for(""))
    assert names(part) == ["data/test.jsonl", "data/train.jsonl"]


def test_a_silent_modelscope_is_an_error(httpserver: HTTPServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ModelScope did not list the files of baihua/talks at 'master'"):
        from_modelscope(NAME, None, None, tmp_path, endpoint=httpserver.url_for(""))


def test_a_hubs_rows_carry_its_name(offline: Path, folder: Path, tmp_path: Path) -> None:
    cache_snapshot(offline, folder)
    made = run_stage("import_data", tmp_path / "out", files=[f"hub:{NAME}:data/train.jsonl"])
    assert made.figures["sources"] == {NAME: {"licence": None, "num_rows": 1}}
