"""Synchformer: by how much do picture and sound of a clip lie apart? Two trunks and a head over 21 offsets.

Iashin, Xie, Rahtu, Zisserman, "Synchformer: Efficient Synchronization from Sparse Cues", ICASSP 2024;
v-iashin/Synchformer, model 24-01-04T16-39-21 (AudioSet). Parameters carry the names of `synchformer_state_dict.pth`
(MMAudio release v0.1), the bare state dict that hkchengrex/av-benchmark and JavisVerse/JavisDiT load.

Video trunk: Motionformer with divided space-time attention, then one encoder layer that reads out each time step.
Audio trunk: AST, then one encoder layer that reads out each time step. Head: three blocks over 14 segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill

WIDTH, HEADS, DEPTH = 768, 12, 12
FRAMES, SIDE, PATCH, TUBE = 16, 224, 16, 2
STEPS, CELLS = FRAMES // TUBE, (SIDE // PATCH) ** 2  # 8 time steps of 196 patches
RATE, SAMPLES = 16000, 10240  # one audio segment, 0.64 s
MEL_BINS, MEL_FRAMES = 128, 66
BANDS, SLOTS = 12, 6  # patches of 16 x 16 every 10: along frequency, along time
AUDIO_MEAN, AUDIO_STD = -4.2677393, 4.5689974
SEGMENTS, CLASSES, HEAD_HEADS, HEAD_DEPTH = 14, 21, 8, 3
TOKENS = 2 + SEGMENTS * (STEPS + SLOTS)
PARTS = {"video": ("vfeat_extractor",), "audio": ("afeat_extractor",), "head": ("vproj", "aproj", "transformer")}
UNUSED = (r"vfeat_extractor\.patch_embed\.proj\.(weight|bias)",)  # the 2-D stem that the 3-D one replaced


def split(x: Tensor, heads: int) -> Tensor:
    """[B, N, heads d] to [B, heads, N, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """[B, heads, N, d] to [B, N, heads d]."""
    return x.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    """Two layers with exact GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


# --- video ---


class GroupAttention(nn.Module):
    """Divided attention: the CLS token sees all tokens, a patch sees CLS and its own group.

    A group is the patches of one place over time (`over="time"`) or those of one time step (`over="space"`).
    """

    def __init__(self, over: str) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.over = over

    def grouped(self, x: Tensor) -> Tensor:
        """Patch tokens [B, heads, N, d] to [B groups, heads, group size, d]."""
        x = x.unflatten(2, (STEPS, CELLS))
        return x.permute(0, 3, 1, 2, 4).flatten(0, 1) if self.over == "time" else x.transpose(1, 2).flatten(0, 1)

    def ungrouped(self, x: Tensor, batch: int) -> Tensor:
        """The inverse, heads merged: [B, N, WIDTH]."""
        x = x.unflatten(0, (batch, -1))
        x = x.permute(0, 3, 1, 2, 4) if self.over == "time" else x.transpose(2, 3)
        return x.reshape(batch, -1, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        batch = len(x)
        q, k, v = (split(part, HEADS) for part in self.qkv(x).chunk(3, dim=-1))
        whole = F.scaled_dot_product_attention(q[:, :, :1], k, v)
        groups = CELLS if self.over == "time" else STEPS
        keys, values = (
            torch.cat([t[:, :, :1].repeat_interleave(groups, dim=0), self.grouped(t[:, :, 1:])], dim=2) for t in (k, v)
        )
        own = F.scaled_dot_product_attention(self.grouped(q[:, :, 1:]), keys, values)
        return self.proj(torch.cat([merge(whole), self.ungrouped(own, batch)], dim=1))


class VideoBlock(nn.Module):
    """Attention over time, attention over space, MLP; each after its own LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(3))
        self.attn = GroupAttention("space")
        self.timeattn = GroupAttention("time")
        self.mlp = MLP()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.timeattn(self.norm3(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class JointProjection(nn.Module):
    """Query, key and value weights under the names of `nn.MultiheadAttention`."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * WIDTH, WIDTH))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)


class ReadOut(nn.Module):
    """One pre-norm encoder layer over [CLS, tokens], of which only the CLS row is computed and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.self_attn = JointProjection()
        self.linear1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.linear2 = nn.Linear(4 * WIDTH, WIDTH)
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, WIDTH] to [B, WIDTH]."""
        row = self.cls_token.expand(len(x), -1, -1)
        y = self.norm1(torch.cat([row, x], dim=1))
        weight, bias = self.self_attn.in_proj_weight, self.self_attn.in_proj_bias
        q = split(F.linear(y[:, :1], weight[:WIDTH], bias[:WIDTH]), HEADS)
        k, v = (split(part, HEADS) for part in F.linear(y, weight[WIDTH:], bias[WIDTH:]).chunk(2, dim=-1))
        row = row + self.self_attn.out_proj(merge(F.scaled_dot_product_attention(q, k, v)))
        return (row + self.linear2(F.gelu(self.linear1(self.norm2(row)))))[:, 0]


class VideoTrunk(nn.Module):
    """Segments of frames in [-1, 1], [B, 16, 3, 224, 224], to [B, 8, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + CELLS, WIDTH))
        self.temp_embed = nn.Parameter(torch.empty(1, STEPS, WIDTH))
        self.patch_embed_3d = nn.Module()
        self.patch_embed_3d.proj = nn.Conv3d(3, WIDTH, (TUBE, PATCH, PATCH), stride=(TUBE, PATCH, PATCH))
        self.blocks = nn.ModuleList(VideoBlock() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.spatial_attn_agg = ReadOut()

    def tokens(self, frames: Tensor) -> Tensor:
        """Patches of 2 x 16 x 16 in the order time, row, column; the convolution as one product."""
        cells = frames.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH)).unflatten(1, (-1, TUBE))
        cells = cells.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)  # [B, 8 x 14 x 14, 3 x 2 x 16 x 16]
        stem = self.patch_embed_3d.get_submodule("proj")
        patches = F.linear(cells, stem.get_parameter("weight").flatten(1), stem.get_parameter("bias"))
        places = (self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]).flatten(1, 2)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(frames), -1, -1)
        return torch.cat([first, patches + places], dim=1)

    def forward(self, frames: Tensor) -> Tensor:
        x = self.tokens(frames)
        for block in self.blocks:
            x = block(x)
        steps = self.norm(x[:, 1:]).reshape(-1, CELLS, WIDTH)
        return self.spatial_attn_agg(steps).unflatten(0, (-1, STEPS))


# --- audio ---


class Dense(nn.Module):
    """A linear layer under the name `dense`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)


class QKV(nn.Module):
    """Separate query, key and value layers."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, heads: int) -> Tensor:
        q, k, v = (split(layer(x), heads) for layer in (self.query, self.key, self.value))
        return merge(F.scaled_dot_product_attention(q, k, v))


class AudioBlock(nn.Module):
    """Pre-norm transformer block under the names of transformers' AST (version 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Module()
        self.attention.attention = QKV()
        self.attention.output = Dense(WIDTH, WIDTH)
        self.intermediate = Dense(WIDTH, 4 * WIDTH)
        self.output = Dense(4 * WIDTH, WIDTH)
        self.layernorm_before, self.layernorm_after = (nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        attend, project = self.attention.get_submodule("attention"), self.attention.get_submodule("output")
        x = x + project(attend(self.layernorm_before(x), HEADS))
        return x + self.output(F.gelu(self.intermediate(self.layernorm_after(x))))


class Spectrogram(nn.Module):
    """AST: normalised log-mels [B, 128, 66] to tokens [B, 12 x 6, 768], frequency first."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.embeddings.distillation_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.embeddings.position_embeddings = nn.Parameter(torch.empty(1, 2 + BANDS * SLOTS, WIDTH))
        self.embeddings.patch_embeddings = nn.Module()
        self.embeddings.patch_embeddings.projection = nn.Conv2d(1, WIDTH, PATCH, stride=10)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(AudioBlock() for _ in range(DEPTH))
        self.layernorm = nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, mels: Tensor) -> Tensor:
        patches = self.embeddings.get_submodule("patch_embeddings.projection")(mels[:, None]).flatten(2).mT
        special = [self.embeddings.get_parameter(name) for name in ("cls_token", "distillation_token")]
        x = torch.cat([*(token.expand(len(mels), -1, -1) for token in special), patches], dim=1)
        x = x + self.embeddings.get_parameter("position_embeddings")
        for block in self.encoder.get_submodule("layer").children():
            x = block(x)
        return self.layernorm(x)[:, 2:]


class AudioTrunk(nn.Module):
    """Normalised log-mels [B, 128, 66] to [B, 6, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.ast = Spectrogram()
        self.freq_attn_agg = ReadOut()

    def forward(self, mels: Tensor) -> Tensor:
        columns = self.ast(mels).unflatten(1, (BANDS, SLOTS)).transpose(1, 2)
        return self.freq_attn_agg(columns.reshape(-1, BANDS, WIDTH)).unflatten(0, (-1, SLOTS))


# --- comparison ---


class HeadAttention(QKV):
    """Attention with an output layer `proj`."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, heads: int = HEAD_HEADS) -> Tensor:
        return self.proj(super().forward(x, heads))


class HeadBlock(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = HeadAttention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Positions(nn.Module):
    """Learned positions; their number fixes the head to exactly 14 segments."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.empty(1, TOKENS, WIDTH))


class Comparison(nn.Module):
    """Projected tokens of video [B, 112, 768] and audio [B, 84, 768] to logits over the offsets [B, 21]."""

    def __init__(self) -> None:
        super().__init__()
        self.OFF_tok = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.MOD_tok = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.vis_in_lnorm, self.aud_in_lnorm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.pos_emb_cfg = Positions()
        self.blocks = nn.ModuleList(HeadBlock() for _ in range(HEAD_DEPTH))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.off_head = nn.Linear(WIDTH, CLASSES)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        off, mod = (token.expand(len(video), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x = torch.cat([off, self.vis_in_lnorm(video), mod, self.aud_in_lnorm(audio)], dim=1) + self.pos_emb_cfg.pos_emb
        for block in self.blocks:
            x = block(x)
        return self.off_head(self.ln_f(x[:, 0]))


class Synchformer(nn.Module):
    """The parts named in `parts`, of "video", "audio" and "head"."""

    def __init__(self, parts: Iterable[str] = tuple(PARTS)) -> None:
        super().__init__()
        for part in parts:
            if part == "video":
                self.vfeat_extractor = VideoTrunk()
            elif part == "audio":
                self.afeat_extractor = AudioTrunk()
            else:
                self.vproj, self.aproj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
                self.transformer = Comparison()

    def compare(self, video: Tensor, audio: Tensor) -> Tensor:
        """Features of 14 segments, [B, 14, 8, 768] and [B, 14, 6, 768], to logits [B, 21]."""
        return self.transformer(self.vproj(video).flatten(1, 2), self.aproj(audio).flatten(1, 2))


def build(state: Mapping[str, Tensor], parts: Iterable[str] = tuple(PARTS)) -> Synchformer:
    """The named parts with the tensors of `synchformer_state_dict.pth`.

    Keys of other parts may be there or not; `UserError` lists any other key too many, too few or of another shape.
    """
    wanted = tuple(parts)
    aside = "|".join(name for part, names in PARTS.items() if part not in wanted for name in names)
    ignore = [*UNUSED, rf"({aside})\..*"] if aside else UNUSED
    return fill(lambda: Synchformer(wanted), state, what="Synchformer", ignore=ignore)


def load(context: Context, part: str) -> Synchformer:
    """One part on the device."""
    return build(read_state(context.weights["synchformer"]), [part]).to(context.device, context.dtype)


def video(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: segments of 16 frames at 25 per second, uint8 RGB [N, 16, 224, 224, 3]. Features: float32 [N, 8, 768]."""
    trunk = load(context, "video").vfeat_extractor

    def encode(segments: Tensor) -> Tensor:
        frames = (segments.float() / 255 - 0.5) / 0.5
        return trunk(frames.movedim(-1, 2).to(context.dtype)).float()

    return encode


def log_mel(device: torch.device | None) -> Callable[[Tensor], Tensor]:
    """Segments [N, 10240] at 16 kHz to normalised log-mels [N, 128, 66].

    Periodic Hann window of 400, FFT of 1024, hop 160, centred with reflection: 65 frames, then one of value 0 before
    normalisation; 128 HTK bands up to 8 kHz, power, natural logarithm of 1e-6 more.
    """
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(RATE, n_fft=1024, win_length=400, hop_length=160, n_mels=MEL_BINS).to(device)

    def compute(waves: Tensor) -> Tensor:
        logs = torch.log(mel(waves.float()) + 1e-6)
        return (F.pad(logs, (0, MEL_FRAMES - logs.shape[-1])) - AUDIO_MEAN) / (2 * AUDIO_STD)

    return compute


def audio(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: segments float32 [N, 10240] at 16 kHz. Features: float32 [N, 6, 768]."""
    trunk, mels = load(context, "audio").afeat_extractor, log_mel(context.device)
    return lambda segments: trunk(mels(segments).to(context.dtype)).float()


def head(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: features of 14 segments, video before audio tokens, float32 [N, 14, 8 + 6, 768].

    Features: logits float32 [N, 21] over offsets of -2 to 2 s, 0.2 s apart.
    """
    model = load(context, "head")

    def encode(features: Tensor) -> Tensor:
        tokens = features.to(context.dtype)
        return model.compare(tokens[:, :, :STEPS], tokens[:, :, STEPS:]).float()

    return encode
