"""The same networks at earlier looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ibtrace.errors import Unsupported

_View = TypeVar("_View")


@dataclass(frozen=True)
class Past(Generic[_View]):
    """Views of networks at earlier looks, on the same samples.

    Args:
        at: Gives the view at the ``initial`` or the ``previous`` look, None if it is not known;
            None: neither is.
    """

    at: Callable[[str], _View | None] | None = None

    @property
    def initial(self) -> _View:
        """The networks at the first look.

        Raises:
            Unsupported: If they are not known.
        """
        view = self._view("initial")
        if view is None:
            raise Unsupported(
                "the networks at the first look are not known: after resuming, give the tracer "
                "what its state_dict() gave before, by load_state_dict"
            )
        return view

    @property
    def previous(self) -> _View | None:
        """The networks at the lens's last look, if there was one."""
        return self._view("previous")

    @classmethod
    def likewise(
        cls, past: Callable[[], Past[_View]], change: Callable[[_View], _View | None]
    ) -> Past[_View]:
        """A past with a change done to each view when it is asked for.

        Args:
            past: Gives the past whose views are changed. It is asked each time, as the look before
                is another for another lens, and a view on some samples is kept for all lenses.
            change: To a view.
        """

        def at(name: str) -> _View | None:
            view = past()._view(name)
            return None if view is None else change(view)

        return cls(at)

    def _view(self, name: str) -> _View | None:
        return None if self.at is None else self.at(name)
