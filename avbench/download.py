"""Fetching files: continued where an earlier try ended, and checked before a file takes its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from avbench.errors import MissingResource, UserError
from avbench.store import file_digest

Progress = Callable[[int, int], None]
BLOCK = 1 << 20
TIMEOUT = 60  # seconds without an answer
RANGE_NOT_SATISFIABLE = 416
AT_ONCE = 8  # files of a repository


def offline() -> bool:
    """Whether the user forbids the network (`AVBENCH_OFFLINE=1` or `HF_HUB_OFFLINE=1`)."""
    return any(os.environ.get(name) == "1" for name in ("AVBENCH_OFFLINE", "HF_HUB_OFFLINE"))


def fetch_url(url: str, place: Path, sha256: str = "", progress: Progress = lambda done, total: None) -> None:
    """Download a file to `place`, by way of `place.part`.

    progress: told (bytes so far, bytes in all; 0 where the server does not say).
    Raises `MissingResource` where it cannot be had now, `UserError` where its digest is not `sha256`.
    """
    import urllib.error
    import urllib.request

    part = place.with_name(place.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    done = part.stat().st_size if part.exists() else 0
    total = 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == 206
            done = done if resumed else 0
            length = int(answer.headers.get("Content-Length") or 0)
            total = length + done if length else 0
            with part.open("ab" if resumed else "wb") as stream:
                while block := answer.read(BLOCK):
                    stream.write(block)
                    progress(done := done + len(block), total)
    except urllib.error.HTTPError as error:
        if not (error.code == RANGE_NOT_SATISFIABLE and whole(error.headers.get("Content-Range"), done)):
            raise MissingResource(f"cannot fetch {url}: {error}") from None
    except (urllib.error.URLError, OSError) as error:
        raise MissingResource(f"cannot fetch {url}: {error}") from None
    if total and done < total:
        raise MissingResource(f"{url} ended after {done} of {total} bytes; repeat the command to continue")
    check(part, sha256, url)
    part.replace(place)


def whole(content_range: str | None, done: int) -> bool:
    """Whether a server that has no more bytes to give says that the file has this many (`bytes */N`)."""
    return (content_range or "").rpartition("/")[2] == str(done)


def check(path: Path, sha256: str, source: str) -> None:
    """Remove a file that is not the published one and say so."""
    if sha256 and (found := file_digest(path)) != sha256:
        path.unlink()
        raise UserError(f"{source}: sha256 is {found}, published is {sha256}; the file was removed")


def fetch_hub(repo: str, name: str, folder: Path, revision: str = "", sha256: str = "") -> None:
    """Files of a dataset repository on the Hugging Face hub into `folder`, at the paths they have there.

    name: a file's path; with a `*`, all files that match. Its client continues and checks each of them.
    Raises `MissingResource` where one cannot be had: a part of them is never taken for the whole.
    """
    from concurrent.futures import ThreadPoolExecutor
    from fnmatch import fnmatch

    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    def get(one: str) -> Path:
        return Path(hf_hub_download(repo, one, repo_type="dataset", revision=revision or None, local_dir=folder))

    try:
        if "*" not in name:
            check(get(name), sha256, f"{repo}: {name}")
            return
        found = [
            one for one in HfApi().list_repo_files(repo, repo_type="dataset", revision=revision or None)
            if fnmatch(one, name) and ".." not in one.split("/")  # a listing is not trusted
        ]  # fmt: skip
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(get, found))
    except (HfHubHTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise MissingResource(f"cannot fetch {name} from {repo}: {reason}") from None
    if not found:
        raise MissingResource(f"cannot fetch {name} from {repo}: the repository holds no such files")
