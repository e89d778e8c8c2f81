"""What happens later: state changes that come some time after the call that asked for them."""

import heapq
import itertools
import sys
import threading
import time
import traceback


class Clock:
    """Runs functions at their time, on a thread of their own each: a slow copy holds up no other change."""

    def __init__(self):
        self._due = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        self.troubles = []
        threading.Thread(target=self._run, name="clock", daemon=True).start()

    def after(self, seconds: float, action, *arguments) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), action, arguments))
            self._changed.notify()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and not (self._due and self._due[0][0] <= time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._ended:
                    return
                _, _, action, arguments = heapq.heappop(self._due)
            threading.Thread(target=self._one, args=(action, arguments), daemon=True).start()

    def _one(self, action, arguments) -> None:
        try:
            action(*arguments)
        except Exception:
            self.troubles.append(traceback.format_exc())
            print(self.troubles[-1], file=sys.stderr, flush=True)
