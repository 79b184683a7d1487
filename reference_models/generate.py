"""Reference models as generators: a checkpoint folder, or a name whose trained weights come with the package.

Imports no torch until clips are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.clip import Clip
from avbench.errors import MissingResource
from avbench.generator import Model, Request, checkpoint_model, model
from avbench.reference_models.catalogue import names

if TYPE_CHECKING:
    from avbench.reference_models.training.sampler import Sampler

SHIPPED = Path(__file__).parent / "shipped"
BATCH = 8


class Checkpoint:
    """Clips of a checkpoint folder, in batches of one size.

    The last batch is filled up, so that a clip does not depend on how many are asked for with it.

    sampler: changes of the sampling settings kept in the checkpoint. Noise comes from each sample's seed alone, so
    twins share it, and a batch size may be chosen freely up to rounding.
    """

    def __init__(self, folder: Path, sampler: Mapping[str, Any] | None = None, batch: int = BATCH) -> None:
        self.folder, self.changes, self.batch = folder, dict(sampler or {}), batch
        self.device = "auto"

    @cached_property
    def sampler(self) -> Sampler:
        from avbench.reference_models.training.sampler import Sampler

        return Sampler(self.folder, self.changes, self.device)

    def generate(self, requests: Sequence[Request]) -> Iterator[Clip]:
        """One clip per request, in order."""
        if requests:
            self.device = requests[0].device
        for at in range(0, len(requests), self.batch):
            part = list(requests[at : at + self.batch])
            filled = part + [part[-1]] * (self.batch - len(part))
            rows = [{name: r.sample.get(name) for name in ("text", "video_text", "audio_text")} for r in filled]
            videos = [r.reference(r.sample.id).need_video() for r in filled] if self.sampler.watches else []
            yield from self.sampler.clips(rows, [r.seed for r in filled], videos)[: len(part)]


@model(*names())
def reference_model(name: str) -> Model:
    """A reference model by its name, with the weights that the package holds for it."""
    folder = SHIPPED / name
    if folder.is_dir():
        return checkpoint_model(name, folder)

    def lacking() -> Any:
        raise MissingResource(
            f"no trained weights of {name} come with avbench; train them (docs/training.md):\n"
            f'  avbench train CONFIG.toml --out {name}     with `model = "{name}"` in CONFIG.toml\n'
            f"  and give the folder:  --model ./{name}"
        )

    return Model(name, {"kind": "reference model", "name": name, "weights": None}, make=lacking)
