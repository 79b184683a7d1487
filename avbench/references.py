"""The real clips of a suite: local media, or rendered by the suite itself."""

from __future__ import annotations

from avbench.clip import Clip
from avbench.errors import SampleError
from avbench.generator import ClipFile
from avbench.progress import Progress
from avbench.store import cache_root
from avbench.suite import Sample, Suite


class References:
    """Real clips by sample id. `digest` is of the whole suite: rendered files are shared by its parts."""

    def __init__(self, suite: Suite, digest: str) -> None:
        self.suite, self.digest = suite, digest
        self.samples = {sample.id: sample for sample in suite.samples}

    def clip(self, id: str) -> Clip:
        """The decoded real clip; `SampleError("reference.none")` where the suite has none."""
        from avbench.media import decode

        sample = self.samples[id]
        if self.suite.render is not None:
            return self.suite.render(sample)
        file = real_file(sample)
        if file is None:
            raise SampleError("reference.none", f"suite {self.suite.name} has no real clip for {id}")
        return decode(file.main, file.audio)

    def files(self, progress: Progress) -> dict[str, ClipFile]:
        """The real clips as files; rendered ones are written to the cache, encoded as generated clips are."""
        if self.suite.render is None:
            return {s.id: file for s in self.suite.samples if (file := real_file(s)) is not None}
        from avbench.encode import write_clip

        folder = cache_root() / "media" / self.digest[:16]
        found = {s.id: ClipFile(folder / f"{s.id}.mp4") for s in self.suite.samples}
        missing: list[Sample] = [s for s in self.suite.samples if not found[s.id].main.is_file()]
        progress.phase("rendering references", len(missing))
        for sample in missing:
            write_clip(found[sample.id].main, self.suite.render(sample))
            progress.step(sample.id)
        return found


def real_file(sample: Sample) -> ClipFile | None:
    """The real clip of a sample as a file: a video, a video and its sound, or sound alone."""
    if sample.reference is None and sample.reference_audio is None:
        return None
    return ClipFile(sample.reference, sample.reference_audio)
