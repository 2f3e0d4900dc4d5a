"""Plant and controller as one graph."""

from holdfast.loop.closed_loop import ClosedLoop, close

__all__ = ["ClosedLoop", "close"]
