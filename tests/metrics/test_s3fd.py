"""S3FD: keys, reference detections, priors, and what the detector keeps of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.errors import UserError
from avbench.features import Context
from avbench.metrics.encoders import s3fd
from tests.hashed import close
from tests.metrics.synchrony import KEYS, arrays, given, shapes, weights


@pytest.fixture(scope="module")
def network() -> s3fd.S3FD:
    return s3fd.build(weights("s3fd"))


def test_keys_are_those_of_the_checkpoint(network: s3fd.S3FD) -> None:
    assert set(network.state_dict()) == set(KEYS["s3fd"])
    assert sum(value.numel() for value in network.parameters()) == 22_459_110


def test_another_checkpoint_is_refused() -> None:
    with pytest.raises(UserError, match="unknown keys: fc"):
        s3fd.build({**shapes("s3fd"), "fc.weight": torch.empty(1, device="meta")})


@pytest.mark.parity
def test_reference_detections(network: s3fd.S3FD) -> None:
    """Scores and boxes of all 612 candidates, in the reference's order."""
    with torch.inference_mode():
        scores, boxes = network(given("s3fd.image", 1, 3, 192, 256))
    scores, boxes = s3fd.candidates(scores[0], boxes[0])
    golden = arrays()["s3fd.detections"]
    assert len(golden) == 612
    assert close(torch.cat([scores[:, None], boxes], dim=1).numpy(), golden)


def test_priors_are_squares_four_steps_wide() -> None:
    boxes = s3fd.priors(((48, 64), (24, 32)), 192, 256)
    assert boxes.shape == (48 * 64 + 24 * 32, 4)
    assert boxes[0].tolist() == pytest.approx([2 / 256, 2 / 192, 16 / 256, 16 / 192])
    assert boxes[1].tolist() == pytest.approx([6 / 256, 2 / 192, 16 / 256, 16 / 192])  # along a row first
    assert boxes[48 * 64].tolist() == pytest.approx([4 / 256, 4 / 192, 32 / 256, 32 / 192])


def test_a_move_of_nothing_is_the_prior() -> None:
    prior = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    still = s3fd.corners(torch.zeros(1, 1, 4), prior)
    assert still[0, 0].tolist() == pytest.approx([0.4, 0.3, 0.6, 0.7])
    moved = s3fd.corners(torch.tensor([[[10.0, 0.0, 5 * np.log(2.0), 0.0]]]), prior)
    assert moved[0, 0].tolist() == pytest.approx([0.5, 0.3, 0.9, 0.7])


def test_faces_kept_are_sure_and_apart() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.3, 0.0, 0.7, 0.4], [0.35, 0.0, 0.75, 0.4], [0.6, 0.6, 0.9, 0.9]])
    scores = torch.tensor([0.95, 0.99, 0.91, 0.90])
    found = s3fd.faces_of(scores, boxes)
    # The third lies on the second; the first shares a seventh with it, more than 0.1; the fourth is not above 0.9.
    assert found.shape == (100, 5)
    assert found[0].tolist() == pytest.approx([0.99, 0.3, 0.0, 0.7, 0.4])
    assert not found[1:].any()


def test_no_face_is_no_row(network: s3fd.S3FD, tmp_path: Path) -> None:
    """With hashed weights nothing scores above 0.9; images of a batch do not touch each other."""
    from safetensors.torch import save_file

    save_file(weights("s3fd"), tmp_path / "s3fd.safetensors")
    detect = s3fd.faces(Context(torch.device("cpu"), torch.float32, {"s3fd": tmp_path / "s3fd.safetensors"}))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8))
    with torch.inference_mode():
        assert detect(images).shape == (2, 100, 5) and not detect(images).any()
        means = torch.tensor(s3fd.RGB_MEANS)
        both = network((images.float() - means).movedim(-1, 1))
        one = network((images[1:].float() - means).movedim(-1, 1))
    assert torch.allclose(both[0][1:], one[0], atol=1e-6) and torch.allclose(both[1][1:], one[1], atol=1e-5)
