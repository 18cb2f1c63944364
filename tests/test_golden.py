"""What a stage writes changes only together with its VERSION.

When a test here fails: if the change is meant, raise the stage's VERSION and put the new pair down.
"""

from dataclasses import asdict
from pathlib import Path

from baihua.core import kinds
from baihua.core.artifact import hash_json
from baihua.core.stage import STAGES
from baihua.data.rows import read_rows
from fakes import talk, write_lines

ROWS = [talk(f"问题{n}", f"回答{n}", group=f"g{n % 7}") for n in range(20)]
GOLDEN = {
    "import_data": (1, "be6a5686edd1b877"),
    "split": (1, "607d0486ed2377c1"),
}


def imported(folder: Path) -> Path:
    stage = kinds.find(STAGES, "import_data")
    file = write_lines(folder / "talks.jsonl", [*ROWS, "{"])
    stage.run(stage.Config(files=[str(file)], bad_rows="drop"), {}, folder)
    return folder


def figure(kind: str, *folders: Path) -> tuple[int, str]:
    rows = [[asdict(row) for row in read_rows(folder)] for folder in folders]
    return kinds.find(STAGES, kind).VERSION, hash_json(rows)[:16]


def test_import_data_writes_what_its_version_writes(tmp_path: Path) -> None:
    assert figure("import_data", imported(tmp_path)) == GOLDEN["import_data"]


def test_split_writes_what_its_version_writes(tmp_path: Path) -> None:
    stage = kinds.find(STAGES, "split")
    stage.run(stage.Config(heldout_share=0.3, seed=7), {"data": imported(tmp_path)}, tmp_path / "out")
    assert figure("split", tmp_path / "out" / "train", tmp_path / "out" / "heldout") == GOLDEN["split"]
