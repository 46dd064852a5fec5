"""The two ways in which a call can end badly, with an exit code each."""


class UserError(ValueError):
    """Something the caller can mend: a bad argument, a missing file. Exit code 2.

    The message is one sentence that says what is wrong and what to do.
    """


class SystemFault(RuntimeError):
    """Something that is not the caller's fault: a full disk, a broken download. Exit code 1."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop; the error's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")


class ImageNote(UserWarning):
    """Something harmless that a user should know about an image: a conversion, an incomplete data set."""
