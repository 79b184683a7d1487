"""Training: twins, resumption to the bit, determinism, arms, configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from avbench.cli import app
from avbench.errors import UserError
from avbench.progress import Silent
from avbench.reference_models.codecs import LogMel
from avbench.reference_models.common.conditioning import Conditions
from avbench.reference_models.training import trainer as module
from avbench.reference_models.training.checkpoint import read_tensors, replace_file
from avbench.reference_models.training.conditions import Conditioner
from avbench.reference_models.training.config import ARMS, Config, Data, Loss, load_config, parse_config
from avbench.reference_models.training.curves import draw_curves, read_log, round_step, smooth, ticks
from avbench.reference_models.training.data import Latents, latents
from avbench.reference_models.training.objectives import Batch, draw, order
from avbench.reference_models.training.trainer import Trainer, partners

SMALL: dict[str, Any] = {
    "model": "avfulldit-nano",
    "steps": 6,
    "batch": 4,
    "settings": {
        "joint_layers": 1,
        "video": {
            "patch_size": [2, 4, 4], "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 1,
            "out_channels": 1, "text_dim": 32, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
        },
        "audio": {
            "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 1, "joint_attention_dim": 32, "pooled_projection_dim": 32,
            "axes_dims_rope": [4, 6, 6],
        },
    },
    "optimiser": {"warmup": 2, "lr": 3e-3, "clip": 0.1},
    "data": {"clips": 12, "valid": 4},
    "log_every": 1,
    "validate_every": 3,
    "save_every": 2,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache of latents for all tests here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def config(**over: Any) -> Config:
    return parse_config({**SMALL, **over}, "test")


def trained(folder: Path, **over: Any) -> dict[str, Tensor]:
    """Weights after a training in `folder`."""
    Trainer(config(**over), folder, "cpu").run()
    tensors, _ = read_tensors(folder / "state.safetensors")
    return {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith("weight/")}


def same(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str = "") -> bool:
    """Equal to the bit under the names of `a` that begin so."""
    return all(torch.equal(a[name], b[name]) for name in a if name.startswith(prefix))


def test_isolated_equals_video_alone_to_the_bit(tmp_path: Path) -> None:
    alone = trained(tmp_path / "t2v", arm="t2v")
    isolated = trained(tmp_path / "isolated", arm="isolated")
    joint = trained(tmp_path / "joint")
    assert alone and all(name.startswith("video.") for name in alone)
    assert same(alone, isolated) and not same(alone, joint)
    fresh = Trainer(config(arm="t2v"), tmp_path / "x", "cpu").parameters
    assert not same(alone, {name: p.detach() for name, p in fresh.items()})
    logs = [read_log(tmp_path / arm / "loss.jsonl") for arm in ("t2v", "isolated")]
    values = [[(r["step"], r.get("video"), r.get("valid_video"), r.get("norm_video")) for r in log] for log in logs]
    assert values[0] == values[1]


def test_one_norm_for_both_towers_would_break_the_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module.nn.utils.clip_grad_norm_

    def together(parameters: Any, limit: float) -> Tensor:
        return whole([p for group in active[0].optimiser.param_groups for p in group["params"]], limit)

    monkeypatch.setattr(module.nn.utils, "clip_grad_norm_", together)
    active: list[Trainer] = []
    found = []
    for arm in ("t2v", "isolated"):
        active[:] = [Trainer(config(arm=arm, steps=3), tmp_path / arm, "cpu")]
        active[0].run()
        found.append({name: p.detach() for name, p in active[0].parameters.items()})
    assert not same(*found, "video.")


KILLED = """
import json, os, signal, sys
from pathlib import Path
from avbench.progress import Silent
from avbench.reference_models.training.config import Config
from avbench.reference_models.training.trainer import Trainer

class Killer(Silent):
    left = int(sys.argv[3])
    def step(self, name, problem=""):
        if self.armed:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
    armed = False
    def phase(self, name, total, unit="clip"):
        self.armed = unit == "step"

Trainer(Config(**json.loads(sys.argv[1])), Path(sys.argv[2]), "cpu", Killer()).run()
"""


def test_killed_and_repeated_gives_the_same_bits(tmp_path: Path) -> None:
    text = config().model_dump_json()
    done = subprocess.run([sys.executable, "-c", KILLED, text, str(tmp_path / "killed"), "5"], check=False)
    assert done.returncode == -9
    _, facts = read_tensors(tmp_path / "killed" / "state.safetensors")
    assert facts["step"] == 4 and read_log(tmp_path / "killed" / "loss.jsonl")[-1]["step"] == 5
    trained(tmp_path / "killed")
    trained(tmp_path / "whole")
    for name in ("state.safetensors", "model.safetensors", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    logs = [read_log(tmp_path / run / "loss.jsonl") for run in ("killed", "whole")]
    assert [{**row, "seconds": 0} for row in logs[0]] == [{**row, "seconds": 0} for row in logs[1]]
    assert not list((tmp_path / "killed").glob(".*.part"))


def test_seed_decides_and_more_steps_continue(tmp_path: Path) -> None:
    six = trained(tmp_path / "six")
    assert not same(six, trained(tmp_path / "other", seed=1))
    trained(tmp_path / "grown", steps=3)
    assert same(six, trained(tmp_path / "grown"))


def test_a_part_is_the_beginning_of_the_whole(tmp_path: Path) -> None:
    """`--until` keeps the schedule, which a shorter training would not."""
    falling = {"optimiser": {**SMALL["optimiser"], "schedule": "cosine"}}
    part = Trainer(config(**falling), tmp_path / "part", "cpu")
    part.run(until=3)
    assert part.step == 3 and (tmp_path / "part" / "model.safetensors").is_file()
    assert same(trained(tmp_path / "whole", **falling), trained(tmp_path / "part", **falling))


def test_stop_saves_and_continues(tmp_path: Path) -> None:
    import signal

    class Stop(Silent):
        def step(self, name: str, problem: str = "") -> None:
            if name == "":
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        Trainer(config(), tmp_path / "run", "cpu", Stop()).run()
    assert read_tensors(tmp_path / "run" / "state.safetensors")[1]["step"] == 1
    assert same(trained(tmp_path / "run"), trained(tmp_path / "whole"))


def test_weights_never_become_infinite(tmp_path: Path) -> None:
    wild = {**SMALL["optimiser"], "lr": 1e30, "warmup": 0, "clip": 0}
    with pytest.raises(UserError, match=r"not finite .* lower optimiser\.lr"):
        Trainer(config(optimiser=wild, save_every=1), tmp_path / "run", "cpu").run()
    tensors, facts = read_tensors(tmp_path / "run" / "state.safetensors")
    assert facts["step"] < 6 and all(torch.isfinite(t).all() for n, t in tensors.items() if n.startswith("weight/"))


def test_bf16_learns_nearly_the_same(tmp_path: Path) -> None:
    full, half = trained(tmp_path / "fp32", steps=2), trained(tmp_path / "bf16", steps=2, precision="bf16")
    assert not same(full, half)
    assert all((full[name] - half[name]).abs().max() < 2e-2 for name in full)


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "run", steps=1)
    with pytest.raises(UserError, match=r"optimiser\.lr: 0\.003 there, 0\.01 here"):
        Trainer(config(optimiser={**SMALL["optimiser"], "lr": 0.01}), tmp_path / "run", "cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no training"):
        Trainer(config(), tmp_path / "mine", "cpu")
    with pytest.raises(UserError, match=r"damaged|not readable"):
        (tmp_path / "run" / "state.safetensors").write_bytes(b"\0" * 64)
        Trainer(config(), tmp_path / "run", "cpu").run()


def test_a_kept_checkpoint_outlives_a_kill_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Trainer.publish

    def killed(self: Trainer, folder: Path) -> None:
        if folder.name == "step-0000002":
            raise KeyboardInterrupt
        real(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "run", keep_every=2)
    trained(tmp_path / "run", keep_every=2)
    assert [path.name for path in sorted((tmp_path / "run").glob("step-*"))] == [f"step-{k:07d}" for k in (2, 4, 6)]


def test_the_main_process_alone_trims_the_log_and_leaves_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path / "run", steps=2)
    log = tmp_path / "run" / "loss.jsonl"
    kept = log.read_text()
    longer = kept + '{"step": 3}\n{"st'
    log.write_text(longer)
    trainer = Trainer(config(steps=2), tmp_path / "run", "cpu")
    trainer.main = False
    trainer.resume()
    assert log.read_text() == longer
    trainer.main = True
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *given: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            trainer.resume()
    assert log.read_text() == longer
    trainer.resume()
    assert log.read_text() == kept


def test_processes_wait_for_the_first_and_sums_are_of_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    monkeypatch.setattr("accelerate.Accelerator", lambda **given: found.update(given))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    module.accelerator("cpu")
    assert max(getattr(one, "timeout", module.timedelta()) for one in found["kwargs_handlers"]).days == 1
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_fp32_is_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's convolutions too: asked for before anything is computed."""
    asked: list[str] = []
    monkeypatch.setattr(module, "set_precision", asked.append)
    monkeypatch.setattr(module, "latents", lambda *given, **other: asked.append("latents"))
    with pytest.raises(AttributeError):
        Trainer(config(), tmp_path / "run", "cpu")
    assert asked[:2] == ["cpu", "latents"]


class Texts:
    """An encoder that keeps what it was asked: bits of its own for every text, as wide as the longest of the call."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Any) -> tuple[Tensor, Tensor]:
        self.asked.append(list(texts))
        mask = torch.tensor([[k < len(text.split()) for k in range(8)] for text in texts])
        return torch.stack([torch.full((8, 32), float(len(text))) for text in texts]) * mask[..., None], mask


@pytest.mark.parametrize("apart", [False, True])
def test_a_caption_is_encoded_once_and_by_itself(apart: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders: list[Texts] = []

    def made(text: Any, device: torch.device) -> Texts:
        encoders.append(Texts())
        return encoders[-1]

    monkeypatch.setattr("avbench.reference_models.training.conditions.text_encoder", made)
    over = {"text_a": {"width": 32, "tokens": 8}} if apart else {}
    trainer = Trainer(config(**over), tmp_path / "run", "cpu")
    trainer.run()
    rows = [*trainer.data.texts, *trainer.valid.texts]
    texts = [{row[f"{name}_text"] for row in rows} | {""} for name in ("video", "audio")]
    assert len(encoders) == 1 + apart
    for encoder, wanted in zip(encoders, texts if apart else [texts[0] | texts[1]]):
        asked = [text for call in encoder.asked for text in call]
        assert sorted(asked) == sorted(wanted) and all(len(call) == 1 for call in encoder.asked)
    cond = trainer.conditioner(rows[:3], 2.0)
    embeddings, mask = Texts()([row["audio_text"] for row in rows[:3]])
    assert torch.equal(cond.need("text_a"), embeddings) and torch.equal(cond.need("mask_a"), mask)
    assert cond.need("text_a").shape == (3, 8, 32)
    nothing = trainer.conditioner.null(2, 2.0)
    assert not nothing.need("text_v").any() and nothing.need("text_v").shape == (2, 8, 32)


def test_remembered_words_are_the_bits_of_the_encoder(tmp_path: Path) -> None:
    trainer = Trainer(config(), tmp_path / "run", "cpu")
    c = trainer.config
    plain = Conditioner(c.text_v, c.text_a, c.choice, False, torch.device("cpu"))
    for name in ("text_v", "text_a", "mask_a", "seconds"):
        for one, other in zip(
            (trainer.conditioner(trainer.data.texts, 2.0), trainer.conditioner.null(4, 2.0)),
            (plain(trainer.data.texts, 2.0), plain.null(4, 2.0)),
        ):
            assert torch.equal(one.need(name), other.need(name)), name


def batch_of(trainer: Trainer) -> Batch:
    return trainer.batch(0)


def test_arms_differ_in_what_they_say_and_in_nothing_else(tmp_path: Path) -> None:
    batches = {arm: batch_of(Trainer(config(arm=arm, loss={"drop": 0.0}), tmp_path / arm, "cpu")) for arm in ARMS}
    own = batches["t2av"]
    for arm, batch in batches.items():
        for name in ("video", "t", "eps_v"):
            assert torch.equal(getattr(batch, name), getattr(own, name)), (arm, name)
        assert torch.equal(batch.cond.need("text_v"), own.cond.need("text_v")) is not ARMS[arm].told
        if ARMS[arm].audio:
            assert batch.audio is not None and torch.equal(batch.audio, own.audio) is (ARMS[arm].sound == "own")
            assert torch.equal(batch.eps_a, own.eps_a)
            assert bool(batch.cond.need("text_a").any()) is ARMS[arm].audio_caption
        else:
            assert batch.audio is None and batch.cond.text_a is None
    silent = batches["silent-audio"].audio
    assert silent is not None and (silent == silent.flatten()[0]).all()


def test_shuffled_sounds_stay_in_their_group_and_none_is_kept() -> None:
    groups = ["bounce", "stick", "collide"] * 7 + ["alone"]
    found = partners(groups, 0)
    assert sorted(found) == list(range(22)) and found[21] == 21
    assert all(groups[i] == groups[j] and i != j for i, j in enumerate(found[:21]))
    assert found != partners(groups, 1)


def test_order_and_draws_do_not_depend_on_the_past() -> None:
    epoch = [i for step in range(5) for i in order(3, 10, step, 4)]
    assert sorted(epoch[:10]) == list(range(10)) and sorted(epoch[10:20]) == list(range(10))
    assert epoch[8:12] == order(3, 10, 2, 4) and epoch[:10] != epoch[10:20]
    video, audio = torch.zeros(4, 1, 2, 2, 2), torch.zeros(4, 3, 2)
    cond = Conditions(text_v=torch.ones(4, 2, 2), text_a=torch.ones(4, 2, 2))
    null = Conditions(text_v=torch.zeros(4, 2, 2), text_a=torch.zeros(4, 2, 2))
    both, alone = (draw(video, a, cond, null, Loss(drop=0.5), 1, 7) for a in (audio, None))
    assert torch.equal(both.t, alone.t) and torch.equal(both.eps_v, alone.eps_v)
    assert torch.equal(both.cond.need("text_v"), alone.cond.need("text_v"))
    rest = [one.map(lambda x: x[2:]) for one in (cond, null)]
    half = draw(video[2:], audio[2:], *rest, Loss(drop=0.5), 1, 7, at=2, whole=4)
    for name in ("t", "eps_v", "eps_a"):
        assert torch.equal(getattr(half, name), getattr(both, name)[2:]), name
    assert torch.equal(half.cond.need("text_a"), both.cond.need("text_a")[2:])


def test_latents_are_made_once_and_shared() -> None:
    made: list[str] = []
    data = Data(clips=5, valid=2, sound="mixed")
    first = latents(data, "train", 5, step=lambda name, problem: made.append(name))
    again = latents(data, "train", 5, step=lambda name, problem: made.append(name))
    assert len(made) == 5 and first.folder == again.folder and len(first) == 5
    assert first.video.shape == (5, 1, 16, 16, 16) and first.audio.shape == (5, 64, 16)
    assert abs(float(first.video.mean())) < 0.5 and 0.5 < float(first.video.std()) < 1.5
    tight = latents(data.model_copy(update={"sound": "tight"}), "train", 5)
    assert np.array_equal(tight.video, first.video) and not np.array_equal(tight.audio, first.audio)


def test_an_interrupted_encoding_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avbench.reference_models.training import data as module

    data, made = Data(clips=7, valid=2, sound="mixed"), list[str]()
    plain = latents(data, "train", 7)
    real = module.encoded

    def stopped(items: Any, codecs: Any, step: Any) -> Any:
        for one in real(items, codecs, step):
            if len(made) == 5:
                raise KeyboardInterrupt
            made.append(one[0]["id"])
            yield one

    monkeypatch.setattr(module, "SHARD", 2)
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "encoded", stopped)
    with pytest.raises(KeyboardInterrupt):
        latents(data, "train", 7)
    monkeypatch.setattr(module, "encoded", lambda *given: (made.append(one[0]["id"]) or one for one in real(*given)))
    told: list[str] = []
    again = latents(data, "train", 7, step=lambda name, problem: told.append(name))
    ids = [row["id"] for row in plain.texts]
    assert made == [*ids[:5], *ids[4:]] and told == ids, "two whole shards were there, the third began anew"
    assert again.folder != plain.folder and again.texts == plain.texts
    for name in ("video.npy", "audio.npy", "texts.json"):
        assert (again.folder / name).read_bytes() == (plain.folder / name).read_bytes()
    assert [path.name for path in again.folder.parent.iterdir()] == [again.folder.name]


def test_two_containers_encode_the_same_latents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are process 1 of their container and share a cache; the second begins while the first is at it."""
    data = Data(clips=5, valid=2)
    begun, done, told = threading.Event(), threading.Event(), list[str]()

    def first(name: str, problem: str) -> None:
        told.append(name)
        if len(told) == 3:
            two.start()
            assert begun.wait(60)

    def second(name: str, problem: str) -> None:
        begun.set()
        assert done.wait(60)

    found: dict[str, Latents] = {}
    monkeypatch.setenv("AVBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "getpid", lambda: 1)
    one = threading.Thread(target=lambda: found.update(first=latents(data, "train", 5, step=first)))
    two = threading.Thread(target=lambda: found.update(second=latents(data, "train", 5, step=second)))
    one.start()
    one.join(60)
    done.set()
    two.join(60)
    assert len(found["first"]) == len(found["second"]) == 5 and np.array_equal(
        found["first"].video, found["second"].video
    )
    folder = found["first"].folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_two_processes_of_one_number_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)

    def outer(scratch: Path) -> None:
        scratch.write_text("outer")
        replace_file(tmp_path / "config.json", lambda path: path.write_text("inner"))
        assert scratch.read_text() == "outer"

    replace_file(tmp_path / "config.json", outer)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "outer"


def test_latents_of_a_suite_hold_out_its_end() -> None:
    data = Data(source="clatter-mini", clips=3, valid=2, video={"kind": "pixels", "channels": 3})
    learned, held = latents(data, "train", 3), latents(data, "valid", 2)
    assert learned.video.shape == (3, 3, 16, 16, 16) and len(held) == 2
    assert not {row["id"] for row in learned.texts} & {row["id"] for row in held.texts}
    with pytest.raises(UserError, match="no clip could be encoded"):
        latents(Data(source="clatter-mini", clips=1, valid=1, video={"kind": "pixels", "frames": 500}), "train", 1)


def test_configuration_errors_name_file_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('model = "avfulldit-nano"\n[optimiser]\nlr = 1e-3\n')
    found = load_config(path, ["optimiser.lr=5e-4", "arm=t2v", "data.events=['bounce']"])
    assert (found.optimiser.lr, found.arm, found.data.events) == (5e-4, "t2v", ("bounce",))
    assert parse_config({"model": "avfulldit-t2v-nano"}, "x").arm == "t2v"
    for changes, message in (
        (["optimiser.lr=-1"], r"a\.toml: not a training\n  optimiser\.lr: Input should be greater than 0"),
        (["optimizer.lr=1"], "optimizer: Extra inputs"),
        (["arm=t2"], "arm 't2' is unknown; use one of t2av"),
        (["steps"], "write KEY=VALUE"),
    ):
        with pytest.raises(UserError, match=message):
            load_config(path, changes)
    with pytest.raises(UserError, match="did you mean avfulldit-nano"):
        load_config(path, ["model=avfulldt-nano"])
    with pytest.raises(UserError, match="has no audio"):
        parse_config({"model": "avfulldit-t2v-nano", "arm": "isolated"}, "x")
    with pytest.raises(UserError, match="does not exist"):
        load_config(tmp_path / "b.toml")


def test_digest_is_of_what_decides_the_weights() -> None:
    assert config().digest == config(save_every=5, steps=7).digest != config(seed=1).digest
    cosine = {**SMALL["optimiser"], "schedule": "cosine"}
    assert config(optimiser=cosine).digest != config(optimiser=cosine, steps=7).digest


def test_curves(tmp_path: Path) -> None:
    rows = [{"step": s, "video": 2.0 / s, "audio": 1.0 / s} for s in range(1, 50)]
    text = draw_curves([*rows, {"step": 49, "valid_video": 0.05}], "a <b>")
    assert text.startswith("<svg") and "a &lt;b>" in text and text.count("<polyline") == 5 and "NaN" not in text
    assert draw_curves([], "x") == ""
    np.testing.assert_allclose(smooth(np.arange(20.0), 3)[[0, 4, 9, 19]], [0, 4, 8.5, 18])
    assert [round_step(last) for last in (1, 40, 300, 2460, 20000)] == [0.1, 5, 50, 500, 2000]
    assert ticks(-1, 1) == [0.1, 0.2, 0.5, 1, 2, 5, 10] and len(ticks(0, 0.06)) >= 4


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.toml"
    lines = ['model = "avfulldit-nano"', "steps = 2", "batch = 2", "data = {clips = 12, valid = 4}"]
    path.write_text("\n".join(lines))
    words = ["train", str(path), "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["step"] == 2 and found["valid_video"] > 0
    names = {p.name for p in (tmp_path / "training" / "small").iterdir()}
    assert names == {"config.json", "model.safetensors", "state.safetensors", "loss.jsonl", "loss.svg"}
    wrong = CliRunner().invoke(app, [*words, "--set", "steps=0"])
    assert wrong.exit_code == 2 and "steps: Input should be greater" in wrong.stderr


def test_log_mel_keeps_moments_and_loudness() -> None:
    from avbench.suites.clatter import DESK, render, scene

    codec = LogMel()
    for index in (0, 2, 4):
        audio = render(scene("train", index, DESK)).need_audio()
        latents_ = codec.encode(audio)
        again = codec.encode(codec.decode(latents_))
        assert latents_.shape == (64, 16) and np.corrcoef(latents_.ravel(), again.ravel())[0, 1] > 0.85
        loud = [x.max(1) > 0 for x in (latents_, again)]
        assert (loud[0] == loud[1]).mean() > 0.9


@pytest.mark.heavy
def test_processes_share_a_batch(tmp_path: Path) -> None:
    whole = trained(tmp_path / "one", steps=2)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "avbench", "train"]
    table = config(steps=2).model_dump(mode="json")
    (tmp_path / "small.toml").write_text("\n".join(f"{key} = {toml(value)}" for key, value in table.items()))
    done = subprocess.run(
        [*words, str(tmp_path / "small.toml"), "--device", "cpu", "--out", str(tmp_path / "two")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tensors, _ = read_tensors(tmp_path / "two" / "state.safetensors")
    for name, value in whole.items():
        torch.testing.assert_close(tensors[f"weight/{name}"], value, rtol=0, atol=2e-3)
    logs = [read_log(tmp_path / run / "loss.jsonl") for run in ("one", "two")]
    for key in ("loss", "norm_video", "norm_audio", "valid_video"):
        values = [[row[key] for row in log if key in row] for log in logs]
        assert len(values[0]) >= 2 and values[0] == pytest.approx(values[1], rel=1e-5), key


def toml(value: Any) -> str:
    """A JSON value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)
