"""The folders beside avbench/ install inside it: metrics/ becomes avbench.metrics, and so on."""

from setuptools import find_packages, setup

PACKS = ["metrics", "suites", "baselines", "reference_models"]

setup(
    packages=find_packages(include=["avbench", "avbench.*"])
    + [f"avbench.{name}" for pack in PACKS for name in find_packages(include=[pack, f"{pack}.*"])],
    package_dir={f"avbench.{pack}": pack for pack in PACKS},
)
