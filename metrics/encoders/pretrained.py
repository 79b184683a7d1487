"""Networks of the transformers library from a local folder, refused unless every weight is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avbench.errors import UserError
from avbench.features import Context


def pretrained(kind: Any, folder: Path, context: Context, **settings: Any) -> Any:
    """`kind.from_pretrained(folder)`, frozen, on the context's device and in its precision.

    transformers would initialise missing weights at random and only warn; here a `UserError` lists them.
    """
    try:
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=context.dtype,
            output_loading_info=True,
            **settings,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no folder of {kind.__name__}: {error}") from None
    for fault in ("missing_keys", "mismatched_keys"):
        if report[fault]:
            shown = ", ".join(map(str, sorted(report[fault])[:8]))
            raise UserError(f"{folder} is no checkpoint of {kind.__name__}: {fault.replace('_', ' ')} {shown}")
    return model.to(context.device).eval().requires_grad_(False)
