"""The run folder: the record of one generator on one suite.

    run.json         manifest, rewritten atomically
    samples.parquet  one row per sample
    scores.parquet   long form: sample, metric, field, value, status, reason
    sets.parquet     set metrics: metric, subset, n, n_ref, value, ...
    journal.jsonl    append-only while running; what a resume reads

The journal survives a kill at any moment: a line is whole or it is the last and ignored. Tables are written once, at
the end, from rows in suite order, so that how the work was divided cannot show.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import UserError
from avbench.store import write_atomic, write_json

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
FINISHED = ("complete", "partial")
COLUMNS: dict[str, dict[str, str]] = {
    "scores": {
        "sample": "string", "metric": "string", "field": "string", "value": "double", "status": "string",
        "reason": "string",
    },
    "samples": {
        "sample": "string", "index": "int64", "status": "string", "reason": "string", "path": "string",
        "audio_path": "string", "sha256": "string", "bytes": "int64", "tags": "list", "text": "string",
        "video_text": "string", "audio_text": "string", "speech_text": "string", "language": "string",
        "video_codec": "string", "audio_codec": "string", "width": "int64", "height": "int64", "fps": "double",
        "frames": "int64", "video_seconds": "double", "audio_seconds": "double", "sample_rate": "int64",
        "channels": "int64", "audio_start": "double", "reference_sha256": "string",
    },
    "sets": {
        "metric": "string", "field": "string", "subset": "string", "n": "int64", "n_ref": "int64", "value": "double",
        "floor": "double", "self": "double", "status": "string", "reason": "string", "notes": "string",
        "failed": "int64", "missing": "int64", "not_applicable": "int64",
    },
}  # fmt: skip


@dataclass
class Run:
    """A finished or unfinished run on disk; `scores`, `samples` and `sets` are pandas frames."""

    folder: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        path = self.folder / "run.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{self.folder} is no run folder: it has no run.json") from None
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}") from None

    @cached_property
    def scores(self) -> pd.DataFrame:
        return self._table("scores")

    @cached_property
    def samples(self) -> pd.DataFrame:
        return self._table("samples")

    @cached_property
    def sets(self) -> pd.DataFrame:
        return self._table("sets")

    def records(self, name: str) -> list[dict[str, Any]]:
        """The rows of a table as plain dicts, None for what has no value."""
        import pyarrow.parquet as pq

        return pq.read_table(self._path(name)).to_pylist()

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        return pd.read_parquet(self._path(name))

    def _path(self, name: str) -> Path:
        path = self.folder / f"{name}.parquet"
        if not path.is_file():
            raise UserError(f"{self.folder} has no {path.name}: its status is {self.manifest.get('status')!r}")
        return path

    @property
    def model(self) -> str:
        return str(self.manifest["model"]["name"])

    @property
    def suite(self) -> str:
        return str(self.manifest["suite"]["name"])

    @property
    def journal(self) -> Path:
        return self.folder / "journal.jsonl"


def safe(name: str) -> str:
    """A name as a single folder name."""
    kept = "".join(c if c.isalnum() or c in "-_.+@" else "_" for c in name).strip(".")
    return kept or "_"


def model_folder(out: Path, suite: str, model: str) -> Path:
    """runs/<suite>/<model>; the slash of a subset becomes '+'."""
    return out / safe(suite.replace("/", "+")) / safe(model)


def runs_in(out: Path, suite: str | None = None, model: str | None = None) -> list[Run]:
    """All run folders below `out`, oldest first."""
    found = [Run(path.parent) for path in sorted(out.glob("*/*/*/run.json"))]
    if suite is not None:
        found = [run for run in found if run.suite == suite]
    if model is not None:
        found = [run for run in found if run.model == model]
    return sorted(found, key=lambda run: (run.manifest["started"], run.folder.name))


@contextmanager
def open_run(out: Path, manifest: dict[str, Any], fresh: bool = False) -> Iterator[tuple[Run, bool]]:
    """The unfinished run of the same specification, or a new folder: (run, resumed), held while the block runs.

    Raises `UserError` where another process holds it.
    """
    folder = model_folder(out, manifest["suite"]["name"], manifest["model"]["name"])
    unfinished = None if fresh else find_unfinished(folder, manifest["digest"])
    path = unfinished.folder if unfinished else new_folder(folder, manifest["digest"])
    with held(path):
        run = Run(path)
        if unfinished is not None:
            update(run, **{**manifest, "started": run.manifest["started"], "status": "running"})
        else:
            write_json(path / "run.json", {"schema": SCHEMA, "status": "running", "started": now(), **manifest})
        yield run, unfinished is not None


def find_unfinished(folder: Path, digest: str) -> Run | None:
    """The latest run of a specification that has not come to its end."""
    for path in sorted(folder.glob(f"*-{digest[:10]}/run.json"), reverse=True):
        run = Run(path.parent)
        if run.manifest["status"] not in FINISHED:
            return run
    return None


def new_folder(folder: Path, digest: str) -> Path:
    """A folder for a run that begins now."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = folder / f"{stamp}-{digest[:10]}"
    count = 1
    while path.exists():
        count += 1
        path = folder / f"{stamp}.{count}-{digest[:10]}"
    path.mkdir(parents=True)
    return path


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes of this machine; the lock ends with the process, however that ends.

    Where the system or its file system has no such locks, the folder is not held. Raises `UserError` where another
    process holds it.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"{folder} is under way in another process\n  wait for it or stop it; --fresh begins a run of its own"
        ) from None
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(handle)


def update(run: Run, **changes: Any) -> None:
    """Change the manifest on disk."""
    manifest = {**run.manifest, **changes}
    write_json(run.folder / "run.json", manifest)
    run.__dict__["manifest"] = manifest


def stopped(run: Run, **changes: Any) -> None:
    """Note in the manifest why a run has ended early, unless it has come to its end: another machine may have shared
    the folder. Where the note cannot be written, the error that ended the run matters more."""
    try:
        if Run(run.folder).manifest["status"] not in FINISHED:
            update(run, **changes, ended=now())
    except (OSError, UserError):
        return


def now() -> str:
    """UTC, ISO 8601, to the microsecond, so that runs are in order which begin in the same second."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


class Journal:
    """Append-only lines; each is flushed to the operating system before the next clip is begun."""

    def __init__(self, path: Path) -> None:
        self.path = path
        cut_torn_line(path)
        self.stream = path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        self.stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self.stream.flush()

    def close(self) -> None:
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def cut_torn_line(path: Path) -> None:
    """Remove a last line that a kill left unfinished, so that the next one starts at a line's beginning."""
    if not path.is_file():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        write_atomic(path, data[:whole])


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a journal."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def write_table(path: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as parquet with the columns of `COLUMNS[name]`: same rows, same bytes."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"string": pa.string(), "double": pa.float64(), "int64": pa.int64(), "list": pa.list_(pa.string())}
    schema = pa.schema([(column, kinds[kind]) for column, kind in COLUMNS[name].items()])
    rows = list(rows)
    table = pa.table({c: pa.array([row.get(c) for row in rows], schema.field(c).type) for c in COLUMNS[name]}, schema)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_atomic(path, sink.getvalue())


def find_run(name: str, out: Path, suite: str | None = None) -> Run:
    """A run folder, or the latest complete run of the model of this name below `out`, else its latest partial one."""
    path = Path(name)
    if (path / "run.json").is_file():
        return Run(path)
    if path.name == "run.json" and path.is_file():
        return Run(path.parent)
    done = [run for run in runs_in(out, suite, name) if run.manifest["status"] in FINISHED]
    if not done:
        models = sorted({run.model for run in runs_in(out, suite)})
        have = f"; models with runs there: {', '.join(models)}" if models else ""
        raise UserError(f"{name} is neither a run folder nor a model with a finished run in {out}{have}")
    complete = [run for run in done if run.manifest["status"] == "complete"]
    return (complete or done)[-1]
