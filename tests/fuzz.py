"""The fuzzer: sound files damaged in many ways, each read in a child process that may fail in no way but a sentence.

The n-th mutant of a seed is the same in every run of one number, however far a run comes. By hand, keeping what was at
fault: `PYTHONPATH=.:tests python tests/fuzz.py --run 0 --seconds 60 --only "volume nii.gz" --keep FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fuzz_seeds import Seed, write_seeds
from places import CHEAT, ROOT, TESTS

LONGEST_S = 20.0
MOST_MB = 2048.0
#: Put in place of numbers and words of a header.
NUMBERS = (0, -1, 1, 2, 127, 128, 255, 256, 32767, -32768, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64)
FLOATS = (0.0, -0.0, -1.0, 1e-320, 1e308, 1.5e9, float("nan"), float("inf"), float("-inf"))
WORDS = (
    *(str(n).encode() for n in NUMBERS), b"nan", b"inf", b"-inf", b"1e308", b"1e-320", b"0.5", b"0,5", b"", b" ", b"\0",
    b"-", b"..", b"/", b"../../x", b"%s", b"null", b"true", b"[]", b"{}", b"\xff\xfe", "é\u00a0".encode(), b"9" * 5000,
    b"A" * 70_000, b"1 2 3 4 5 6 7 8 9",
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A damaged file. words: how. guarded: the damage lies where a checksum guards what is read, and nowhere else."""

    content: bytes
    words: str
    guarded: bool


@dataclass(frozen=True)
class Fault:
    """A mutant that broke the law. kind: "fault" (an exception, or a sentence that is none), "crash", "hang", "memory",
    "silent" (read, with other voxels, though a checksum was broken).
    """

    seed: str
    number: int
    damage: str
    kind: str
    what: str


@dataclass
class Tally:
    """What a run came to: mutants by seed, answers by kind, and the faults."""

    mutants: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)  # sound seeds that are not read, and why
    slowest_s: float = 0.0
    most_mb: float = 0.0

    def describe(self) -> str:
        """The counts, and each place at fault once with one of its mutants."""
        kinds = Counter(fault.kind for fault in self.faults)
        lines = [
            f"{sum(self.mutants.values())} mutants of {len(self.mutants)} seeds; {dict(self.came)}; slowest "
            f"{self.slowest_s:.1f} s, most {self.most_mb:.0f} MB; faults {dict(kinds)}"
        ]
        lines += [f"the sound {name} is not read: {what}" for name, what in self.unread.items()]
        alike: dict[tuple[str, str], list[Fault]] = {}
        for fault in self.faults:
            place = re.sub(r"\d{3,}", "N", fault.what)[:110] if fault.kind == "fault" else fault.seed
            alike.setdefault((fault.kind, place), []).append(fault)
        for (kind, _), found in sorted(alike.items()):
            one = found[0]
            lines.append(f"{kind} x{len(found)}: {one.seed} #{one.number} ({one.damage}): {one.what}")
        return "\n".join(lines)


# Damage


def _flip(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    for _ in range(count := chance.choice((1, 1, 1, 4, 16))):
        data[chance.randrange(start, end)] ^= 1 << chance.randrange(8)
    return f"{count} bits flipped"


def _span(start: int, end: int, chance: random.Random) -> tuple[int, int]:
    first = chance.randrange(start, end)
    return first, min(end, first + chance.choice((1, 2, 4, 16, 64, 1024, 1 << 20)))


def _zero(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    first, last = _span(start, end, chance)
    data[first:last] = bytes(last - first)
    return f"zeros at {first}:{last}"


def _noise(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    first, last = _span(start, end, chance)
    data[first:last] = chance.randbytes(last - first)
    return f"noise at {first}:{last}"


def _cut(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    del data[(place := chance.choice((chance.randrange(start, end), end - min(end - start, 9)))) :]
    return f"cut at {place}"


def _drop(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    first, last = _span(start, end, chance)
    del data[first:last]
    return f"{first}:{last} left out"


def _double(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    first, last = chance.choice((_span(start, end, chance), (start, end)))
    data[last:last] = data[first:last]
    return f"{first}:{last} doubled"


def _inflate(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    place, filler = (
        chance.choice((chance.randrange(start, end), end)),
        chance.choice((b"\0", b"A", b"7", b"\n", b"[", b"\xff")),
    )
    data[place:place] = filler * (size := chance.choice((100, 5000, 70_000, 2_000_000)))
    return f"{size} times {filler!r} at {place}"


def _number(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    """One of the numbers of a header, of any width, replaced by an extreme one."""
    order, kind = chance.choice("<>"), chance.choice("bhiqfd")
    width = struct.calcsize(kind)
    place = start + chance.randrange(max(1, end - start - width + 1)) // (step := chance.choice((1, 2, 4))) * step
    if kind in "fd":
        value: float = chance.choice(FLOATS)
        packed = struct.pack(order + kind, value if kind == "d" or abs(value) < 3e38 else float("inf"))
    else:
        value = chance.choice(NUMBERS)
        packed = (int(value) % (1 << 8 * width)).to_bytes(width, "little" if order == "<" else "big")
    data[place : place + width] = packed
    return f"{order}{kind} {value} at {place}"


def _word(data: bytearray, start: int, end: int, chance: random.Random) -> str:
    """One of the words of a header replaced by an extreme one."""
    found = list(re.finditer(rb"[-+.\w]+", bytes(data[start:end])))
    if not found:
        return _number(data, start, end, chance)
    word = chance.choice(found)
    data[start + word.start() : start + word.end()] = (new := chance.choice(WORDS))
    return f"{word[0][:20]!r} at {start + word.start()} is {new[:20]!r} ({len(new)})"


Damage = Callable[[bytearray, int, int, random.Random], str]
ANYWHERE: tuple[Damage, ...] = (_flip, _flip, _zero, _noise, _cut, _drop, _double, _inflate)
IN_HEADER: tuple[Damage, ...] = (_number, _number, _word, _word)


@cache
def _bomb() -> bytes:
    """A gzip member of 16 MB of zeros."""
    return gzip.compress(bytes(16 << 20), mtime=0)


def mutate(seed: Seed, sound: bytes, chance: random.Random) -> Mutant:
    """One mutant of a sound file."""
    if seed.packed and chance.random() < 0.02:
        return Mutant(sound + _bomb() * (count := chance.choice((1, 8, 128))), f"{count} bombs at the end", False)
    if seed.packed and chance.random() < 0.5:
        inside = bytearray(gzip.decompress(sound))
        words = _damage(inside, seed, chance)
        return Mutant(gzip.compress(bytes(inside), 1, mtime=0), f"inside: {words}", False)
    data = bytearray(sound)
    if seed.sealed is not None and chance.random() < 0.6:
        words = chance.choice(ANYWHERE)(data, seed.sealed, len(data), chance)
        return Mutant(bytes(data), words, True)
    words = _damage(data, seed, chance)
    return Mutant(bytes(data), words, False)


def _damage(data: bytearray, seed: Seed, chance: random.Random) -> str:
    words = []
    for _ in range(chance.choice((1, 1, 1, 2))):
        if not data:
            break
        header = chance.random() < 0.6
        end = min(seed.head, len(data)) if header else len(data)
        words.append(chance.choice(IN_HEADER if header else ANYWHERE)(data, 0, end, chance))
    return ", ".join(words)


# The child, and a run


class Child:
    """One process that reads mutants; a new one where a mutant ended it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def ask(self, reader: str, path: Path, *, longest_s: float) -> dict[str, object]:
        """What the child says of a file, or {"came": "hang"} or {"came": "crash"} where it says nothing."""
        if self._process is None:
            paths = os.pathsep.join([str(ROOT), str(TESTS)])
            self._process = subprocess.Popen(
                [sys.executable, str(TESTS / "fuzz_child.py")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                     "TMPDIR": str(path.parent)},
            )  # fmt: skip
            self._rest = b""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"reader": reader, "path": str(path)}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._line(longest_s)
        except BrokenPipeError:
            line = b""
        if line:
            return dict(json.loads(line))
        status = self.end()
        if line is None:
            return {"came": "hang", "what": f"no answer in {longest_s:.0f} s"}
        return {"came": "crash", "what": signal.Signals(-status).name if status < 0 else f"exit status {status}"}

    def _line(self, longest_s: float) -> bytes | None:
        """A line; b"" where the child is gone, None where it takes too long."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + longest_s
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            more = os.read(self._process.stdout.fileno(), 1 << 16)
            if not more:
                return b""
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def end(self) -> int:
        """End the child; its exit status."""
        if self._process is None:
            return 0
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._process.stdout.close()
        self._process = None
        return status


def run(
    folder: Path, *, number: int, seconds: float, workers: int = 2, only: str = "", keep: Path | None = None,
    longest_s: float = LONGEST_S,
) -> Tally:  # fmt: skip
    """Damage every seed again and again for `seconds`, all of them in turn. number: of the run; another, other mutants.

    keep: where the files at fault are kept.
    """
    seeds = [seed for seed in write_seeds(folder / "seeds", weights=CHEAT) if only in seed.name]
    tally, until, lock = Tally(), time.monotonic() + seconds, threading.Lock()
    turns = _turns(seeds)

    def work(which: int, child: Child) -> None:
        known: dict[str, object] = {}
        place = folder / f"worker {which}"
        place.mkdir(parents=True)
        while time.monotonic() < until:
            with lock:
                seed, turn = next(turns)
            if seed.name not in known:  # also loads the libraries, which is no file's fault
                sound = child.ask(seed.reader, seed.read, longest_s=120)
                known[seed.name] = sound.get("digest")
                if sound["came"] != "read":
                    tally.unread[seed.name] = str(sound["what"])
            one = mutate(seed, seed.path.read_bytes(), random.Random(f"{number} {seed.name} {turn}"))
            _try(child, seed, turn, one, place, known[seed.name])

    def _try(child: Child, seed: Seed, turn: int, one: Mutant, place: Path, sound: object) -> None:
        path = _lay(seed, one.content, place)
        said = child.ask(seed.reader, path, longest_s=longest_s)
        kinds = [str(said["came"])] if said["came"] not in ("read", "refused") else []
        what = str(said.get("what", ""))
        if float(str(said.get("peak_mb", 0))) > MOST_MB:
            kinds, what = [*kinds, "memory"], f"{said['peak_mb']:.0f} MB; {what}"
        if said["came"] == "read" and one.guarded and said["digest"] != sound and sound is not None:
            kinds.append("silent")
        if turn % 6 == 0 and seed.reader in ("volume", "slide") and said["came"] != "hang":
            seen = child.ask("inspect", path, longest_s=longest_s)
            if seen["came"] not in ("read", "refused"):
                kinds, what = [*kinds, str(seen["came"])], f"inspect: {seen['what']}"
        with lock:
            tally.mutants[seed.name] += 1
            tally.came[str(said["came"])] += 1
            tally.read[seed.name] += said["came"] == "read"
            tally.slowest_s = max(tally.slowest_s, float(str(said.get("seconds", longest_s))))
            tally.most_mb = max(tally.most_mb, float(str(said.get("peak_mb", 0))))
            tally.faults += [Fault(seed.name, turn, one.words, kind, what) for kind in kinds]
        if kinds and keep is not None:
            (keep / f"{kinds[0]} {seed.name} {turn} {seed.path.name}").write_bytes(one.content)

    problems: list[BaseException] = []

    def safely(which: int) -> None:
        child = Child()
        try:
            work(which, child)
        except BaseException as problem:
            problems.append(problem)
        finally:
            child.end()

    threads = [threading.Thread(target=safely, args=(which,)) for which in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return tally


def _turns(seeds: list[Seed]) -> Iterator[tuple[Seed, int]]:
    turn = 0
    while True:
        for seed in seeds:
            yield seed, turn
        turn += 1


def _lay(seed: Seed, content: bytes, place: Path) -> Path:
    """Lay a mutant where the sound file lay, its neighbours beside it; what is to be read."""
    below = place / seed.path.parent.name
    if not below.exists():
        below.mkdir()
        for beside in seed.path.parent.iterdir():
            (below / beside.name).write_bytes(beside.read_bytes())
    (below / seed.path.name).write_bytes(content)
    return below if seed.read.is_dir() else below / seed.read.name


def main() -> None:
    """A run by hand."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--run", type=int, default=0)
    ask.add_argument("--seconds", type=float, default=60)
    ask.add_argument("--workers", type=int, default=1)
    ask.add_argument("--only", default="")
    ask.add_argument("--keep", type=Path)
    given = ask.parse_args()
    if given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tally = run(
            Path(folder),
            number=given.run,
            seconds=given.seconds,
            workers=given.workers,
            only=given.only,
            keep=given.keep,
        )
    print(tally.describe())
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
