"""The one exception type for what a user can mend."""


class InputError(ValueError):
    """Something given from outside is wrong: a path, a file, an option, a size.

    The message is one line that names the thing and says what was expected; the
    command line prints it without a traceback and exits with status 2.
    """
