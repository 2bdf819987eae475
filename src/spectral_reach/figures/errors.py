"""What a figure says when the studies that it is given have nothing to show in it."""


class NothingToDrawError(ValueError):
    """The studies are right, but what the figure shows has not been run or measured yet; the message says what."""
