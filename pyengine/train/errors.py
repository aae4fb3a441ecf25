"""What can go wrong in a run for reasons that lie with its user or its data."""


class UserError(ValueError):
    """A mistake in the options, the files or the data; its message is one line that says what to change."""


class DivergedError(FloatingPointError):
    """The loss is no longer a finite number."""


class Interrupted(Exception):
    """The run was asked to stop, and did so with its checkpoint written."""
