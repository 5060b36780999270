"""Sessions at once on loopback: each analyses a demo case that is in the cache, then moves its slider.

    python -m benchmarks.sessions [--sessions 20]

Each session speaks Streamlit's own protocol over a web socket of its own, so that the server is measured and not
twenty browsers. Lost is a session that gets another result than the first, an error, or no picture of the slice it
asked for. Memory is the server's resident set, sampled while the sessions are at work.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.pages import served

AIM_GB = 4.0
WAIT_S = 300.0


@dataclass
class Session:
    """One browser without a screen: what stands on its page, by the place it stands at."""

    address: str
    socket: Any = None
    there: dict[tuple[int, ...], Any] = field(default_factory=dict)
    fragments: dict[tuple[int, ...], str] = field(default_factory=dict)
    hash: str = ""  # of the page

    def open(self, page: str) -> None:
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from websockets.sync.client import connect

        self.socket = connect(
            self.address.replace("http", "ws") + "/_stcore/stream", subprotocols=["streamlit"], origin=self.address,
            max_size=None, proxy=None, legacy=True, open_timeout=WAIT_S,
        )  # fmt: skip
        told = BackMsg()
        told.rerun_script.page_name = page
        self._run(told)

    def press(self, label: str) -> None:
        """Presses a button."""
        self._run(self._told(self._found("button", label), trigger=True))

    def slide(self, label: str, value: int) -> None:
        """Moves a slider; a fragment's widget reruns its fragment alone."""
        self._run(self._told(self._found("slider", label), value=value))

    def metrics(self) -> list[str]:
        """What the numbers on the page say."""
        return [e.metric.body for e in self.there.values() if e.WhichOneof("type") == "metric"]

    def says(self, text: str) -> bool:
        """Whether a text stands anywhere on the page, a picture's words for the blind included."""
        return any(text in str(element) for element in self.there.values())

    def errors(self) -> list[str]:
        """Errors on the page."""
        kinds = {e.WhichOneof("type"): e for e in self.there.values()}
        wrong = [str(kinds["exception"])] if "exception" in kinds else []
        return wrong + [
            e.alert.body for e in self.there.values() if e.WhichOneof("type") == "alert" and e.alert.format == 1
        ]

    def _found(self, kind: str, label: str) -> tuple[Any, str]:
        for place, element in self.there.items():
            if element.WhichOneof("type") == kind and getattr(element, kind).label == label:
                return getattr(element, kind), self.fragments.get(place, "")
        raise LookupError(f"no {kind} {label!r} on the page")

    def _told(self, found: tuple[Any, str], *, trigger: bool = False, value: int | None = None) -> Any:
        from streamlit.proto.BackMsg_pb2 import BackMsg

        widget, fragment = found
        told = BackMsg()
        told.rerun_script.page_script_hash = self.hash
        told.rerun_script.fragment_id = fragment
        state = told.rerun_script.widget_states.widgets.add()
        state.id = widget.id
        if trigger:
            state.trigger_value = True
        elif value is not None:
            state.double_array_value.data.append(value)
        return told

    def _run(self, told: Any) -> None:
        """Sends a wish and reads the page until its script has ended."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        self.socket.send(told.SerializeToString())
        if not told.rerun_script.fragment_id:
            self.there.clear()
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            message = ForwardMsg()
            message.ParseFromString(self.socket.recv(timeout=WAIT_S))
            kind = message.WhichOneof("type")
            if kind == "navigation":
                self.hash = message.navigation.page_script_hash
            elif kind == "delta":
                place = tuple(message.metadata.delta_path)
                if message.delta.WhichOneof("type") == "new_element":
                    self.there[place] = message.delta.new_element
                    self.fragments[place] = message.delta.fragment_id
            elif kind == "script_finished":
                return
        raise TimeoutError("the page's script did not end")


def resident_gb(pid: int) -> float:
    """The server's resident memory now."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1e6


def one(address: str, number: int, gate: threading.Barrier, told: list[tuple[float, float, str]]) -> None:
    """One session from opening to the moved slider: seconds of the analysis and of the slider, and what it got."""
    session = Session(address)
    try:
        session.open("analyse")
        gate.wait()
        began = time.perf_counter()
        session.press("Run")
        analysed = time.perf_counter() - began
        got = " ".join(session.metrics())
        wanted = number % 10 + 1
        began = time.perf_counter()
        session.slide("Slice", wanted)
        moved = time.perf_counter() - began
        lost = session.errors() or ([] if session.says(f"slice {wanted} of") else ["no picture of its slice"])
        told.append((analysed, moved, "; ".join(lost) or got))
    except Exception as problem:  # what a session dies of is the measurement
        told.append((0.0, 0.0, f"{type(problem).__name__}: {problem}"))
        gate.abort()
    finally:
        if session.socket is not None:
            session.socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=20)
    count = parser.parse_args().sessions
    with served() as (address, process):
        alone: list[tuple[float, float, str]] = []
        one(address, 0, threading.Barrier(1), alone)  # fills the cache
        before, peak = resident_gb(process.pid), 0.0
        told: list[tuple[float, float, str]] = []
        gate = threading.Barrier(count)
        sessions = [threading.Thread(target=one, args=(address, n, gate, told)) for n in range(count)]
        for session in sessions:
            session.start()
        while any(session.is_alive() for session in sessions):
            peak = max(peak, resident_gb(process.pid))
            time.sleep(0.1)
    lost = [what for _, _, what in told if what != alone[0][2]]
    print(f"alone: {alone[0][2]!r}, analysis (cold) {alone[0][0]:.2f} s, slider {alone[0][1]:.2f} s")
    print(f"{count} at once: {len(lost)} lost; analysis {statistics.median(t[0] for t in told):.2f} s median, "
          f"{max(t[0] for t in told):.2f} s worst; slider {statistics.median(t[1] for t in told):.2f} s median, "
          f"{max(t[1] for t in told):.2f} s worst")  # fmt: skip
    print(f"memory of the server: {before:.2f} GB before, {peak:.2f} GB at most (aim {AIM_GB} GB)")
    for what in lost:
        print("lost:", what)
    if lost or peak > AIM_GB:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
