"""The same plan on many machines, by Ray: workers that carry out parts of it against one shared store.

What is computed does not depend on who computes it: a worker runs the ordinary `Executor` on a part of the plan and
puts features into the store; only errors and counts travel back. Where to run and what is alive is Ray's affair; a part
whose worker is lost goes to a new one. Clips, weights and store must be reachable from every node under the same paths
(the store also by a URL).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from avbench.errors import MissingResource, SampleError, UserError
from avbench.execute import CHUNK_CLIPS, Counts, Executor, Networks, Settings
from avbench.features import Feature
from avbench.plan import Plan, Subject, Todo

PARTS_PER_WORKER = 4  # so that one slow worker does not hold up the end
ATTEMPTS = 4  # of a part whose worker died; after the first its clips go one by one
Errors = list[dict[Feature, SampleError]]


class Worker:
    """An actor: one executor's settings, with its networks kept between parts."""

    def __init__(self, settings: Settings, torch_threads: int) -> None:
        import torch

        torch.set_num_threads(torch_threads)  # Ray would set 1; other counts can change the last bit on a CPU
        self.settings = settings
        self.networks: Networks | None = None

    def run(self, part: Plan, todo: Todo) -> tuple[Errors, Counts]:
        """Compute a part; its features are in the store when this returns. Errors in the order of `todo`."""
        part.__dict__["rounds"] = [todo]
        executor = Executor(part, self.settings)
        self.networks = executor.networks = self.networks or executor.networks
        found = dict(executor.execute())
        errors = [{f: o for f, o in found[one].items() if isinstance(o, SampleError)} for one, _ in todo]
        return errors, executor.counts


@dataclass
class Cluster:
    """Stands in for `Executor`. `settings.ray` is the address; "" takes RAY_ADDRESS or starts Ray here."""

    plan: Plan
    settings: Settings

    def __post_init__(self) -> None:
        self.counts = Counts()

    def execute(self) -> Iterator[tuple[Subject, dict[Feature, SampleError | None]]]:
        """As `Executor.execute`, but with None for a value: the store has it."""
        if not self.plan.rounds:
            return
        ray = connect(self.settings.ray or "")
        try:
            for todo in self.plan.rounds:
                yield from self.dispatch(ray, todo)
        finally:
            ray.shutdown()

    def dispatch(self, ray: Any, todo: Todo) -> Iterator[tuple[Subject, dict[Feature, SampleError | None]]]:
        """Deal parts to workers as they become free; idle ones are released, so that a replaced one finds room."""
        make, count = self.workers(ray)
        waiting = [(part, 1) for part in split(todo, count)]
        pool = [make() for _ in range(min(count, len(waiting)))]
        lean = replace(self.plan, metrics=[], subjects=[])
        running: dict[Any, tuple[Any, Todo, int]] = {}
        while waiting or running:
            while waiting and pool:
                worker, (todo, attempt) = pool.pop(), waiting.pop(0)
                running[worker.run.remote(lean, todo)] = worker, todo, attempt
            while pool:
                ray.kill(pool.pop())
            done, _ = ray.wait(list(running), num_returns=1)
            worker, todo, attempt = running.pop(done[0])
            try:
                errors, counts = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, BaseException) else error from None
            except ray.exceptions.RayError as error:  # the worker or its node is gone
                ray.kill(worker)
                worker = make()
                if attempt < ATTEMPTS:
                    waiting += [([one], attempt + 1) for one in todo]
                    errors, counts, todo = [], Counts(), []
                else:
                    lost = SampleError("worker.died", f"{type(error).__name__} in each of {ATTEMPTS} attempts")
                    errors, counts = [dict.fromkeys(todo[0][1], lost)], Counts()
            pool.append(worker)
            self.counts.add(counts)
            for (one, lacking), lost_features in zip(todo, errors):
                yield one, {feature: lost_features.get(feature) for feature in lacking}
        for worker in pool:
            ray.kill(worker)

    def workers(self, ray: Any) -> tuple[Callable[[], Any], int]:
        """How to make a worker, and how many: one for each GPU, or as many as the CPU cores carry."""
        import torch

        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        device = self.settings.device if self.settings.device != "auto" else ("cuda:0" if gpus else "cpu")
        if device != "cpu" and not gpus:
            raise UserError(f"--device {device} --ray: no node of the cluster has a GPU")
        threads = torch.get_num_threads()
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        share = max(1, min(threads, largest))
        count = gpus if device != "cpu" else max(1, cpus // share)
        options = {"num_gpus": 1, "num_cpus": 1} if device != "cpu" else {"num_cpus": share}
        actor = ray.remote(Worker).options(max_restarts=0, **options)
        settings = replace(self.settings, device="cuda:0" if device != "cpu" else "cpu")
        return lambda: actor.remote(settings, threads), count


def connect(address: str) -> Any:
    """Start Ray or join a cluster; returns the module."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingResource("--ray needs Ray\n  pip install 'avbench[ray]'") from None
    passed = {
        name: os.environ[name] for name in ("AVBENCH_CACHE", "AVBENCH_STORE", "HF_HUB_OFFLINE") if name in os.environ
    }
    try:
        ray.init(address or None, log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": passed})
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {address}: {error}") from None
    return ray


def split(todo: Sequence[tuple[Subject, list[Feature]]], workers: int) -> list[Todo]:
    """Parts in order: large enough to fill batches, small enough to keep all workers busy to the end."""
    size = max(1, min(CHUNK_CLIPS, len(todo) // (workers * PARTS_PER_WORKER)))
    return [list(todo[start : start + size]) for start in range(0, len(todo), size)]
