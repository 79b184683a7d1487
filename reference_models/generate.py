"""Reference models as generators: a checkpoint folder, or a name whose trained weights come with the package.

Imports no torch until clips are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from avbench.clip import Clip
from avbench.errors import MissingResource
from avbench.generator import Made, Model, Request, attempted, checkpoint_model, model
from avbench.reference_models.catalogue import names

if TYPE_CHECKING:
    from avbench.reference_models.training.sampler import Sampler, Watched

SHIPPED = Path(__file__).parent / "shipped"
BATCH = 8


class Task(NamedTuple):
    """What the sampler needs for one clip. watched: the video that a model which only makes sound is shown."""

    captions: dict[str, str]
    seed: int
    watched: Watched | None


class Checkpoint:
    """Clips of a checkpoint folder, in batches of one size.

    A batch is filled up where it lacks clips, so that a clip does not depend on how many are asked for with it.

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

    def generate(self, requests: Sequence[Request]) -> Iterator[Made]:
        """One clip per request, in order; where its real clip cannot be shown, the error of that."""
        if requests:
            self.device = requests[0].device
        size = self.batch
        for at in range(0, len(requests), size):
            tasks = [attempted(partial(self.task, request)) for request in requests[at : at + size]]
            clips = self.sampled([task for task in tasks if isinstance(task, Task)])
            for task in tasks:
                yield next(clips) if isinstance(task, Task) else task

    def task(self, request: Request) -> Task:
        """A request made ready. Raises the `SampleError` of a real clip that is missing, broken or too short."""
        captions = {name: request.sample.get(name) for name in ("text", "video_text", "audio_text")}
        shown = self.sampler.watch(request.reference(request.sample.id).need_video()) if self.sampler.watches else None
        return Task(captions, request.seed, shown)

    def sampled(self, tasks: Sequence[Task]) -> Iterator[Clip]:
        """One clip per task. A batch that memory does not suffice for is halved, and so are all that follow."""
        done = 0
        while done < len(tasks):
            part = list(tasks[done : done + self.batch])
            clips = self.fitting(part + [part[-1]] * (self.batch - len(part)))
            yield from clips[: len(part)]
            done += min(len(clips), len(part))

    def fitting(self, tasks: Sequence[Task]) -> list[Clip]:
        """A batch of clips; none where it is too large for the memory, and the batch is smaller from now on."""
        import torch

        captions, seeds = [task.captions for task in tasks], [task.seed for task in tasks]
        watched = [task.watched for task in tasks if task.watched is not None]
        try:
            return self.sampler.clips(captions, seeds, watched)
        except (torch.OutOfMemoryError, MemoryError):
            if self.batch == 1:
                raise
        # not above: the error holds what the batch had allocated
        self.batch //= 2
        torch.cuda.empty_cache()
        return []


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
