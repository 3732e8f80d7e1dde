"""Who watches a run: pictures, a page, curves. The loop tells them where it stands, and knows none of them."""


class Listener:
    """Told of a run's progress after its record has it; does nothing by itself."""

    def begun(self) -> None:
        """Before the first step; a run that goes on has the epochs of before in its record."""

    def epoch_ended(self) -> None: ...

    def ended(self) -> None:
        """After the result."""
