"""Run a data stage in this process and look at what it wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from baihua.core import kinds
from baihua.core.stage import STAGES
from baihua.data.rows import DROPPED_FILE, Row, read_rows


@dataclass(frozen=True, slots=True)
class Made:
    """What a data stage left behind; every one of its counts has been checked to add up."""

    figures: dict[str, Any]
    folder: Path

    @property
    def rows(self) -> list[Row]:
        """The kept conversations."""
        return read_rows(self.folder)

    @property
    def texts(self) -> list[str]:
        """The answers of the kept conversations, or the kept documents."""
        file = self.folder / "documents.parquet"
        if file.is_file():
            return pq.read_table(file)["text"].to_pylist()
        return [row.messages[-1].content for row in self.rows]

    @property
    def dropped(self) -> list[dict[str, Any]]:
        """The dropped rows."""
        return pq.read_table(self.folder / DROPPED_FILE).to_pylist()

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Line and reason of each dropped row."""
        return [(row["line"], row["reason"]) for row in self.dropped]


def run_stage(kind: str, out: Path, inputs: dict[str, Path] | None = None, **fields: Any) -> Made:
    """Run a stage into a folder."""
    stage = kinds.find(STAGES, kind)
    out.mkdir(parents=True, exist_ok=True)
    made = Made(stage.run(stage.Config.model_validate(fields), inputs or {}, out), out)
    figures = made.figures
    added, dropped = sum(figures["num_rows_added"].values()), sum(figures["num_rows_dropped"].values())
    assert figures["num_rows_in"] + added == figures["num_rows_kept"] + dropped
    assert len(made.dropped) == dropped
    assert len(made.texts) == figures["num_rows_kept"]
    assert not (out / "work").exists()
    return made


def import_files(folder: Path, *files: Path, **fields: Any) -> Made:
    """Run import_data on files, leaving bad rows out."""
    return run_stage("import_data", folder / "out", files=[str(f) for f in files], **({"bad_rows": "drop"} | fields))
