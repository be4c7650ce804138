"""The one error that a user is meant to read: what, where, what was expected, what to do next."""


class PipelineError(Exception):
    """A problem with input, parameters or state that the user can mend; shown without a traceback."""
