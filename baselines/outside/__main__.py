"""The adapters' command line; see the package."""

from __future__ import annotations

import argparse
import shlex
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avbench.baselines.outside import Job, read_rows, system, systems
from avbench.errors import UserError


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m avbench.baselines.outside", description="Outside systems.")
    verbs = whole.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="the systems")
    verbs.add_parser("show", help="one of them").add_argument("name")
    for verb, about in (
        ("plan", "print files and commands, run nothing"),
        ("run", "run its commands, then collect"),
        ("collect", "gather outputs that exist"),
    ):
        one = verbs.add_parser(verb, help=about)
        one.add_argument("name")
        one.add_argument("--prompts", type=Path, required=True, help="JSON lines, as avbench writes for commands")
        one.add_argument("--out", type=Path, required=True, help="receives <id>.mp4")
        one.add_argument("--repo", type=Path, default=Path(), help="checkout of the system's repository")
        one.add_argument("--work", type=Path, help="its raw outputs; default: OUT/.work")
        one.add_argument("--python", default="python", help="Python of its environment")
        one.add_argument("--images", type=Path, help="folder of <id>.png, for systems that begin from an image")
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an option of the system")
    return whole


def option(text: str) -> tuple[str, Any]:
    """KEY=VALUE; the value as TOML, or as it stands."""
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def show(name: str) -> None:
    one = system(name)
    print(f"{one.title} ({one.source})\n{one.repository} {one.commit}, {one.licence}; makes {one.makes}")
    print("options: " + (", ".join(f"{k}={v}" for k, v in one.options.items()) or "none"))
    for note in one.notes:
        print(f"* {note}")


def act(args: argparse.Namespace) -> None:
    rows = read_rows(args.prompts)
    work = args.work or args.out / ".work"
    options = dict(map(option, args.set))
    job = Job(system(args.name), rows, args.repo.resolve(), work.resolve(), args.python, options, args.images)
    if args.verb == "plan":
        for path in job.texts():
            print(f"write {path}")
        print(f"cd {shlex.quote(str(job.repo / job.system.folder))}")
        for words in job.commands():
            print(shlex.join(words))
        return
    if args.verb == "run":
        job.run()
    found = job.collect(args.out)
    print(f"{len(found)} of {len(rows)} clips in {args.out}")


def main(words: Sequence[str] | None = None) -> int:
    args = parser().parse_args(words)
    try:
        if args.verb == "list":
            for name, one in systems().items():
                print(f"{name:14} {one.makes:14} {one.title}")
        elif args.verb == "show":
            show(args.name)
        else:
            act(args)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
