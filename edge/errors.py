"""What this package raises when the person at the keyboard has to do something, and how errors become sentences."""


class UserError(Exception):
    """Bad input or an impossible output. str() is one sentence: what was found, what was expected, what to do."""


def sentence(error: Exception) -> str:
    """What an exception of a library or of another part of the project says, ended by a full stop unless it asks."""
    text = str(error).rstrip(".")
    return text if text.endswith("?") else text + "."
