"""Make `.links/avbench`: the package as it installs, for type checkers, which do not run import hooks."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKS = ("metrics", "suites", "baselines", "reference_models")


def main() -> None:
    """Link each entry of `avbench/` and the four folders beside it."""
    target = ROOT / ".links" / "avbench"
    target.mkdir(parents=True, exist_ok=True)
    for link in target.iterdir():
        link.unlink()
    for source in [*(ROOT / "avbench").iterdir(), *(ROOT / pack for pack in PACKS)]:
        if source.name != "__pycache__":
            (target / source.name).symlink_to(source)


if __name__ == "__main__":
    main()
