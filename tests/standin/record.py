"""Every request that came, in order, for a test to assert on."""

import threading
import time


class Requests:
    def __init__(self):
        self._changed = threading.Condition()
        self._all: list[dict] = []

    def open(self, service: str, action: str, parameters: dict, headers) -> dict:
        """Notes a request as it comes; the entry is completed when it was answered."""
        with self._changed:
            entry = {
                "n": len(self._all) + 1,
                "service": service,
                "action": action,
                "params": parameters,
                "time": time.time(),
                "user_agent": headers.get("User-Agent"),
                "done": False,  # was it carried out
                "status": None,  # None: no answer was sent (yet)
                "error": None,
                "fault": None,
            }
            self._all.append(entry)
            self._changed.notify_all()
            return entry

    def note(self, entry: dict, **changes) -> None:
        with self._changed:
            entry.update(changes)
            self._changed.notify_all()

    def chosen(self, action: str | None = None, service: str | None = None, at_least: int = 0, seconds: float = 0) -> list[dict]:
        """The requests of an action or service (all, without); waits so long for there to be so many."""

        def matching():
            return [
                dict(each)
                for each in self._all
                if (action is None or each["action"] == action) and (service is None or each["service"] == service)
            ]

        with self._changed:
            if at_least:
                self._changed.wait_for(lambda: len(matching()) >= at_least, seconds)
            return matching()

    def clear(self) -> None:
        with self._changed:
            self._all.clear()
