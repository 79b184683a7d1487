"""AMT-S: the frame halfway between two frames, for motion smoothness.

Li et al., "AMT: All-Pairs Multi-Field Transforms for Efficient Frame Interpolation", CVPR 2023; the network as VBench
(Vchitect/VBench 45e79ec) runs it. Parameters carry the names of `amt-s.pth`, whose tensors lie under "state_dict". It
always runs in float32: pixel positions do not fit into 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avbench.checkpoints import read_state
from avbench.features import Context
from avbench.metrics.encoders.loading import fill
from avbench.metrics.encoders.raft import pad

CHANNELS = (20, 32, 44, 56)
SIDE = 20  # channels of a residual block that its second and fourth convolution see
RADIUS, LEVELS = 3, 4
FIELDS = 3
MULTIPLE = 16  # the pyramid halves the image four times


def scaled(x: Tensor, factor: float) -> Tensor:
    """Bilinear resize of [N, C, H, W] by a factor."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def pixel_grid(like: Tensor) -> Tensor:
    """Positions of the pixels of [..., H, W]: [1, 2, H, W], x before y."""
    height, width = like.shape[-2:]
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device), torch.arange(width, device=like.device), indexing="ij"
    )
    return torch.stack([x, y])[None].to(like.dtype)


def sample(image: Tensor, places: Tensor, padding: str) -> Tensor:
    """Bilinear values of [N, C, H, W] at pixel positions [N, h, w, 2], x before y."""
    last = torch.tensor([image.shape[-1] - 1, image.shape[-2] - 1], device=image.device, dtype=image.dtype)
    return F.grid_sample(image, 2 * places / last - 1, padding_mode=padding, align_corners=True)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """`image` looked up where `flow` points to; outside it, the border's value."""
    places = pixel_grid(flow) + flow
    return sample(image, places.movedim(1, -1), "border")


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with instance normalisation, and a shortcut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer // 4, 1)
        self.conv2 = nn.Conv2d(outer // 4, outer // 4, 3, stride, 1)
        self.conv3 = nn.Conv2d(outer // 4, outer, 1)
        self.downsample = nn.Sequential(nn.Conv2d(inner, outer, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in (self.conv1, self.conv2, self.conv3):
            y = F.relu(F.instance_norm(convolution(y)))
        shortcut = x if self.downsample is None else F.instance_norm(self.downsample(x))
        return F.relu(shortcut + y)


class FeatureEncoder(nn.Module):
    """Images [N, 3, H, W] to matching features [N, 84, H / 8, W / 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 7, 2, 3)
        self.layer1 = nn.Sequential(Bottleneck(32, 32, 1), Bottleneck(32, 32, 1))
        self.layer2 = nn.Sequential(Bottleneck(32, 64, 2), Bottleneck(64, 64, 1))
        self.layer3 = nn.Sequential(Bottleneck(64, 96, 2), Bottleneck(96, 96, 1))
        self.conv2 = nn.Conv2d(96, 84, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.instance_norm(self.conv1(x)))
        return self.conv2(self.layer3(self.layer2(self.layer1(x))))


class Correlation:
    """Inner products of every pixel of one feature map with every pixel of another, at four resolutions."""

    def __init__(self, volume: Tensor, size: tuple[int, int]) -> None:
        """`volume` [N, h w, h w]: rows are the pixels that look, columns those looked at."""
        batch, pixels = volume.shape[:2]
        self.levels = [volume.reshape(batch * pixels, 1, *size)]
        for _ in range(LEVELS - 1):
            self.levels.append(F.avg_pool2d(self.levels[-1], 2))

    def lookup(self, places: Tensor) -> Tensor:
        """Values in the window around `places` [N, 2, h, w]: [N, 4 x 49, h, w], the window's first axis along x."""
        batch, _, height, width = places.shape
        window = torch.arange(-RADIUS, RADIUS + 1, device=places.device, dtype=places.dtype)
        offsets = torch.stack(torch.meshgrid(window, window, indexing="ij"), dim=-1)  # [7 (x), 7 (y), 2]
        centres = places.movedim(1, -1).reshape(-1, 1, 1, 2)
        found = [sample(volume, centres / 2**level + offsets, "zeros") for level, volume in enumerate(self.levels)]
        return torch.cat([one.reshape(batch, height, width, -1) for one in found], dim=-1).movedim(-1, 1)


def correlate(first: Tensor, second: Tensor) -> tuple[Correlation, Correlation]:
    """Correlations from the first feature map [N, C, h, w] to the second, and back."""
    size = (first.shape[-2], first.shape[-1])
    volume = first.flatten(2).transpose(1, 2) @ second.flatten(2) / first.shape[1] ** 0.5
    return Correlation(volume, size), Correlation(volume.transpose(1, 2), size)


def conv_prelu(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and PReLU."""
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1), nn.PReLU(outer))


class Pyramid(nn.Module):
    """Image features at 1/2, 1/4, 1/8 and 1/16 of the size."""

    def __init__(self) -> None:
        super().__init__()
        for level, (inner, outer) in enumerate(zip((3, *CHANNELS), CHANNELS), start=1):
            self.add_module(f"pyramid{level}", nn.Sequential(conv_prelu(inner, outer, 2), conv_prelu(outer, outer)))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = []
        for stage in self.children():
            levels.append(x := stage(x))
        return levels


class ResBlock(nn.Module):
    """Five convolutions, of which the second and fourth act on the last channels only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_prelu(channels, channels)
        self.conv2 = conv_prelu(SIDE, SIDE)
        self.conv3 = conv_prelu(channels, channels)
        self.conv4 = conv_prelu(SIDE, SIDE)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for whole, side in ((self.conv1, self.conv2), (self.conv3, self.conv4)):
            y = whole(y)
            y = torch.cat([y[:, :-SIDE], side(y[:, -SIDE:])], dim=1)
        return self.prelu(x + self.conv5(y))


class Decoder(nn.Module):
    """Convolution, residual block, and transposed convolution to twice the size."""

    def __init__(self, inner: int, width: int, outer: int) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            conv_prelu(inner, width), ResBlock(width), nn.ConvTranspose2d(width, outer, 4, 2, 1)
        )

    def forward(self, *parts: Tensor) -> Tensor:
        return self.convblock(torch.cat(parts, dim=1))


def leaky_pair(inner: int, middle: int, outer: int) -> nn.Sequential:
    """Two 3x3 convolutions with a leaky ReLU between them."""
    return nn.Sequential(nn.Conv2d(inner, middle, 3, 1, 1), nn.LeakyReLU(0.1), nn.Conv2d(middle, outer, 3, 1, 1))


class Update(nn.Module):
    """Refine flows and feature by what the correlations say where the flows point; works at 1/8 of the image size."""

    def __init__(self, feature: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.convc1 = nn.Conv2d(2 * LEVELS * (2 * RADIUS + 1) ** 2, 64, 1)
        self.convf1 = nn.Conv2d(4, 40, 7, 1, 3)
        self.convf2 = nn.Conv2d(40, 20, 3, 1, 1)
        self.conv = nn.Conv2d(84, 68, 3, 1, 1)
        self.gru = leaky_pair(72 + feature, 76, 76)
        self.feat_head = leaky_pair(76, 76, feature)
        self.flow_head = leaky_pair(76, 76, 4)

    def forward(
        self, feature: Tensor, flows: Tensor, volumes: tuple[Correlation, Correlation]
    ) -> tuple[Tensor, Tensor]:
        """feature [N, C, H, W], flows [N, 4, H, W] (to the first image, then to the second); both refined."""
        down = 1 / self.scale
        small, flow = (feature, flows) if self.scale == 1 else (scaled(feature, down), scaled(flows, down) * down)
        places = pixel_grid(flow)
        forward, backward = volumes
        # Halfway in time, a flow to one image is half of the flow between the images.
        matches = torch.cat(
            [forward.lookup(places + 2 * flow[:, 2:]), backward.lookup(places + 2 * flow[:, :2])], dim=1
        )
        correlation = F.leaky_relu(self.convc1(matches), 0.1)
        motion = F.leaky_relu(self.convf2(F.leaky_relu(self.convf1(flow), 0.1)), 0.1)
        both = F.leaky_relu(self.conv(torch.cat([correlation, motion], dim=1)), 0.1)
        state = self.gru(torch.cat([both, flow, small], dim=1))
        more_feature, more_flow = self.feat_head(state), self.flow_head(state)
        if self.scale > 1:
            more_feature, more_flow = scaled(more_feature, self.scale), scaled(more_flow, self.scale) * self.scale
        return feature + more_feature, flows + more_flow


class AMT(nn.Module):
    """Two images [N, 3, H, W] in [0, 1], sides multiples of 16, to the one halfway between them in time."""

    def __init__(self) -> None:
        super().__init__()
        one, two, three, four = CHANNELS
        self.feat_encoder = FeatureEncoder()
        self.encoder = Pyramid()
        self.decoder4 = Decoder(2 * four + 1, 2 * four, three + 4)
        self.decoder3 = Decoder(3 * three + 4, 3 * three, two + 4)
        self.decoder2 = Decoder(3 * two + 4, 3 * two, one + 4)
        self.decoder1 = Decoder(3 * one + 4, 3 * one, 8 * FIELDS)
        self.update4 = Update(three, 1)
        self.update3 = Update(two, 2)
        self.update2 = Update(one, 4)
        self.comb_block = nn.Sequential(
            nn.Conv2d(3 * FIELDS, 6 * FIELDS, 3, 1, 1), nn.PReLU(6 * FIELDS), nn.Conv2d(6 * FIELDS, 3, 3, 1, 1)
        )

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        mean = torch.cat([first, second], dim=1).mean(dim=(1, 2, 3), keepdim=True)
        images = first - mean, second - mean
        volumes = correlate(*self.feat_encoder(torch.cat(images)).chunk(2))
        pyramids = [self.encoder(image) for image in images]

        halves = pyramids[0][3], pyramids[1][3]
        time = torch.full_like(halves[0][:, :1], 0.5)
        flows, feature = self.decoder4(*halves, time).split([4, CHANNELS[2]], dim=1)
        feature, flows = self.update4(feature, flows, volumes)
        for level, decoder, update in ((2, self.decoder3, self.update3), (1, self.decoder2, self.update2)):
            decoded = decoder(feature, *self.warped(pyramids, level, flows), flows)
            flows = decoded[:, :4] + 2 * scaled(flows, 2)
            feature, flows = update(decoded[:, 4:], flows, volumes)
        decoded = self.decoder1(feature, *self.warped(pyramids, 0, flows), flows)
        return self.combine(decoded, 2 * scaled(flows, 2), images, mean)

    @staticmethod
    def warped(pyramids: Sequence[Sequence[Tensor]], level: int, flows: Tensor) -> list[Tensor]:
        """Both images' features of one level, moved along the flows."""
        return [warp(pyramid[level], flow) for pyramid, flow in zip(pyramids, flows.chunk(2, dim=1))]

    def combine(self, decoded: Tensor, flows: Tensor, images: tuple[Tensor, Tensor], mean: Tensor) -> Tensor:
        """Blend the warped images of each of the three flow fields, then the three blends."""
        more_flow, mask, residual = decoded.split([4 * FIELDS, FIELDS, 3 * FIELDS], dim=1)
        blends = []
        for field in range(FIELDS):
            pair = [slice(2 * field + start, 2 * field + start + 2) for start in (0, 2 * FIELDS)]
            weight = mask[:, field : field + 1].sigmoid()
            to_first, to_second = (
                warp(image, flow + more_flow[:, part]) for image, flow, part in zip(images, flows.chunk(2, dim=1), pair)
            )
            blend = weight * to_first + (1 - weight) * to_second + mean
            blends.append(blend + residual[:, 3 * field : 3 * field + 3])
        average = torch.stack(blends).mean(dim=0)
        return (average + self.comb_block(torch.cat(blends, dim=1))).clamp(0, 1)


def build(state: Mapping[str, Tensor]) -> AMT:
    """The network of `amt-s.pth`."""
    return fill(AMT, state, what="AMT-S")


def midpoint_error(context: Context) -> Callable[[Tensor], Tensor]:
    """Items: three frames in a row, uint8 [N, 3, H, W, 3]. Features: float32 [N, 2], in 0...255.

    Both are the mean absolute difference, over pixels and channels, between the middle frame and the one predicted from
    its neighbours: cut down to whole grey levels first, as VBench does it, and as it is.
    """
    model = build(read_state(context.weights["amt_s"])).to(context.device)

    def encode(items: Tensor) -> Tensor:
        before, after = (items[:, place].movedim(-1, 1).float() / 255 for place in (0, 2))
        (first, inside), (second, _) = pad(before, MULTIPLE), pad(after, MULTIPLE)
        predicted = (model(first, second)[..., *inside] * 255).movedim(1, -1)
        truth = items[:, 1].float()
        errors = [(truth - levels).abs().flatten(1).mean(dim=1) for levels in (predicted.floor(), predicted)]
        return torch.stack(errors, dim=1)

    return encode
