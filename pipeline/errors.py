"""The three errors of the project. Rejected is data; failed is an exception."""


class PipelineError(Exception):
    """Base of the errors we raise on purpose."""


class BadInput(PipelineError):
    """A file or value that can't be used: its song is quarantined, never retried.

    `reason` is a short stable slug (``unreadable``, ``too_long``) that tables count by; the message gives value,
    limit and remedy.
    """

    def __init__(self, message: str, reason: str = "bad_input") -> None:
        super().__init__(message)
        self.reason = reason


class BackendUnavailable(PipelineError):
    """A model, weight file or extra that the chosen backend needs is missing: the run stops."""
