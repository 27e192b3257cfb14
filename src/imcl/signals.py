"""Handles the signals that ask a process to end."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled(numbers: Iterable[int], handler: Handler) -> Iterator[None]:
    """Let `handler` handle these signals, and afterwards what handled them before.

    A signal that this process was started to ignore stays ignored, as SIGINT is in the background
    jobs of a shell script, and SIGHUP under nohup. Python handles signals in its main thread alone,
    so in another thread nothing changes.
    """
    here = threading.current_thread() is threading.main_thread()
    heeded = [n for n in numbers if here and signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
