"""A Ray cluster of two nodes on this machine; an evaluation runs on it, and one node is killed midway.

    python two_nodes.py MODEL SUITE OUT

Run by test_cluster.py in a network namespace of its own.
"""

import os
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

import avbench
from avbench.store import cache_root


def features() -> int:
    return sum(1 for _ in cache_root().rglob("*.safetensors"))


def main() -> None:
    model, suite, out = sys.argv[1:]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cores = os.cpu_count() or 1
    nodes = [cluster.add_node(num_cpus=cores) for _ in range(2)]
    before = features()

    def kill() -> None:
        """The first node goes as soon as something was computed."""
        while features() == before:
            time.sleep(0.02)
        cluster.remove_node(nodes[0], allow_graceful=False)
        print("killed", features() - before, flush=True)

    threading.Thread(target=kill, daemon=True).start()
    run = avbench.evaluate(model, suite, out=Path(out), ray=cluster.address, device="cpu", fresh=True)
    print(
        "done",
        run.manifest["counts"]["ok"],
        run.manifest["work"]["decodes"],
        features() - before,
        run.folder,
        flush=True,
    )
    cluster.shutdown()


if __name__ == "__main__":
    main()
