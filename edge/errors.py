"""What this package raises when the person at the keyboard has to do something, and how errors become sentences."""


class UserError(Exception):
    """Bad input or an impossible output. str() is one sentence: what was found, what was expected, what to do."""


def sentence(error: Exception) -> str:
    """What an exception of a library or of another part of the project says, with a full stop at its end."""
    return str(error).rstrip(".") + "."
