"""Errors and the exit codes of the command line.

Two kinds: a `UserError` stops the command with one message (what, where, what to do) and an exit code; a
`SampleError` belongs to one sample, becomes a row with a stable reason code, and never stops a run.
"""


class UserError(Exception):
    """A mistake or a lack that the user can mend; `exit_code` is what the command returns."""

    exit_code = 2


class UnknownName(UserError):
    """No metric, suite, model or checkpoint has this name."""


class MissingResource(UserError):
    """Something must be installed or fetched first; the message holds the command that does it."""

    exit_code = 4


class NotComparable(UserError):
    """Two results measure different things."""

    exit_code = 5


class SampleError(Exception):
    """One sample has no value. `code` is stable and scripts may match it; `detail` is for people."""

    status = "failed"

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail

    def __reduce__(self) -> tuple[type["SampleError"], tuple[str, str]]:
        return type(self), (self.code, self.detail)


class NotApplicable(SampleError):
    """The metric does not apply to this sample (no audio, no speech, no face); not a failure."""

    status = "not_applicable"


class MissingClip(SampleError):
    """The generator delivered no clip for this sample."""

    status = "missing"
