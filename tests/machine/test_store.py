"""Laws of the store: an entry comes back as it was put, or not at all, whatever happens to processes and disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from places import ROOT

from cmssd_core.machine import store as store_module
from cmssd_core.machine.store import ARRAYS, DTYPES, META, PASSING, Store, StoreError, key

KEY = key(what="a result")
OTHER = key(what="another result")
CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
stored_arrays = st.dictionaries(
    st.text(max_size=12).filter(lambda name: name != "__metadata__"),
    st.sampled_from(DTYPES).flatmap(
        lambda name: hnp.arrays(np.dtype(name), hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    max_size=4,
)


def sample(seed: int = 0) -> dict[str, np.ndarray]:
    return {"map": np.random.default_rng(seed).normal(size=(4, 16, 16)).astype(np.float32)}


def passing(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if path.name.startswith(PASSING)]


# Keys


@settings(deadline=None, suppress_health_check=CALM)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), json_values, max_size=5))
def test_key_ignores_the_order_of_parts(parts):
    assert key(**parts) == key(**dict(reversed(parts.items())))
    assert len(key(**parts)) == 64


def test_key_is_the_same_in_every_process_and_release():
    """Canonical JSON of the parts, hashed by hand with sha256sum."""
    assert (
        key(model="cmssd", sizes=(1, 2))
        == (
            subprocess.run(
                ["sha256sum"], input=b'{"model":"cmssd","sizes":[1,2]}', capture_output=True, check=True
            ).stdout.decode()[:64]
        )
    )


def test_key_tells_values_and_kinds_apart():
    keys = [key(a=value) for value in (None, True, 1, 1.0, "1", [1], {"1": 1}, "", [], {})]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")]])
def test_key_refuses_what_json_cannot_say(value):
    with pytest.raises(ValueError, match="use None"):
        key(a=value)


@pytest.mark.parametrize("value", [Path("x"), b"x", {1: 2}, {1, 2}, np.zeros(2), np.float32(1), object()])
def test_key_refuses_unknown_kinds_and_names_the_place(value):
    with pytest.raises(TypeError, match=r"key\.a\[0\]"):
        key(a=[value])


@pytest.mark.parametrize("bad", ["", "..", "../" + "a" * 61, "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" * 64])
def test_a_key_that_is_no_key_never_reaches_the_disk(tmp_path, bad):
    store = Store(tmp_path / "store", limit_bytes=None)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        store.get(bad)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        store.put(bad, arrays={}, meta={})
    assert not (tmp_path / "store").exists()


# Round trip


@given(arrays=stored_arrays, meta=st.dictionaries(st.text(), json_values, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=CALM)
def test_what_was_put_comes_back_to_the_bit(tmp_path, arrays, meta):
    store = Store(tmp_path / uuid.uuid4().hex, limit_bytes=None)
    store.put(KEY, arrays=arrays, meta=meta)
    entry = store.get(KEY)
    assert entry is not None
    assert entry.meta == meta
    assert set(entry.arrays) == set(arrays)
    for array_name, array in arrays.items():
        back = entry.arrays[array_name]
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.tobytes() == array.tobytes()


def test_strided_and_big_endian_arrays_keep_their_values(tmp_path):
    base = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    arrays = {
        "transposed": base.transpose(2, 0, 1),
        "every second": base[:, ::2, ::-1],
        "fortran": np.asfortranarray(base),
        "big endian": base.astype(">f4"),
        "scalar": np.array(3.5),
    }
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=arrays, meta={})
    entry = store.get(KEY)
    assert entry is not None
    for name, array in arrays.items():
        np.testing.assert_array_equal(entry.arrays[name], array)


def test_an_entry_cannot_be_changed_by_who_reads_it(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=sample(), meta={})
    entry = store.get(KEY)
    assert entry is not None
    with pytest.raises(ValueError, match="read-only"):
        entry.arrays["map"][0] = 1
    with pytest.raises(TypeError):
        entry.arrays["map"] = np.zeros(1)
    with pytest.raises(AttributeError):
        entry.meta = {}


@pytest.mark.parametrize("array", [np.array(["x"]), np.array([object()]), np.zeros(2, dtype="M8[s]")])
def test_arrays_that_would_not_come_back_are_refused(tmp_path, array):
    with pytest.raises(TypeError, match="the store keeps"):
        Store(tmp_path, limit_bytes=None).put(KEY, arrays={"a": array}, meta={})


def test_meta_that_would_not_come_back_is_refused(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    with pytest.raises(ValueError, match="use None"):
        store.put(KEY, arrays={}, meta={"a": float("nan")})
    with pytest.raises(TypeError, match="Path"):
        store.put(KEY, arrays={}, meta={"a": Path("x")})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_entry_or_folder_is_a_miss(tmp_path):
    assert Store(tmp_path, limit_bytes=None).get(KEY) is None
    assert Store(tmp_path / "none", limit_bytes=None).get(KEY) is None
    assert Store(tmp_path / "none", limit_bytes=None).size() == 0


def test_the_first_entry_under_a_key_stays(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays={}, meta={"n": 1})
    store.put(KEY, arrays={}, meta={"n": 2})
    entry = store.get(KEY)
    assert entry is not None
    assert entry.meta == {"n": 1}


# Damage


def test_every_truncation_is_a_miss_and_is_removed(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    for file in (ARRAYS, META):
        store.put(KEY, arrays=sample(), meta={"n": 1})
        size = (tmp_path / KEY / file).stat().st_size
        for length in sorted({0, 1, 7, 8, 9, size // 3, size // 2, size - 2, size - 1}):
            store.put(KEY, arrays=sample(), meta={"n": 1})
            os.truncate(tmp_path / KEY / file, length)
            assert store.get(KEY) is None
            assert not (tmp_path / KEY).exists()
    assert passing(tmp_path) == []


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=CALM)
def test_a_flipped_bit_is_never_returned(tmp_path, data):
    arrays = {"a": np.arange(12, dtype=np.float64)}
    meta = {"severity_pct": 12.5, "steps": ["one"], "n": 1}
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=arrays, meta=meta)
    path = tmp_path / KEY / data.draw(st.sampled_from([ARRAYS, META]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    entry = store.get(KEY)
    assert entry is None or (entry.meta == meta and np.array_equal(entry.arrays["a"], arrays["a"]))


def test_a_lost_file_or_a_foreign_thing_under_the_key_is_a_miss(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    for file in (ARRAYS, META):
        store.put(KEY, arrays=sample(), meta={})
        (tmp_path / KEY / file).unlink()
        assert store.get(KEY) is None
    (tmp_path / KEY).write_text("a file", encoding="utf-8")
    assert store.get(KEY) is None
    (tmp_path / KEY).symlink_to(tmp_path / "nowhere")
    assert store.get(KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_an_entry_moved_under_another_key_is_a_miss(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=sample(), meta={})
    (tmp_path / KEY).rename(tmp_path / OTHER)
    assert store.get(OTHER) is None


def test_putting_over_a_damaged_entry_mends_it(tmp_path):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=sample(), meta={"n": 1})
    (tmp_path / KEY / META).write_text(json.dumps({"body": [], "seal": "x"}), encoding="utf-8")
    store.put(KEY, arrays=sample(), meta={"n": 2})
    entry = store.get(KEY)
    assert entry is not None
    assert entry.meta == {"n": 2}


def test_a_damaged_entry_that_cannot_be_removed_is_a_store_error(tmp_path, monkeypatch):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=sample(), meta={})
    (tmp_path / KEY / META).write_text("torn", encoding="utf-8")
    monkeypatch.setattr(Store, "_discard", lambda *_: None)
    with pytest.raises(StoreError, match="cannot be replaced"):
        store.put(KEY, arrays=sample(), meta={})
    assert passing(tmp_path) == []


# Limits


def test_the_least_recently_used_entries_go_first(tmp_path):
    names = [key(n=n) for n in range(4)]
    store = Store(tmp_path, limit_bytes=None)
    for age, name in enumerate(names[:3]):
        store.put(name, arrays=sample(), meta={})
        os.utime(tmp_path / name, (1000 + age, 1000 + age))
    one = store.size() // 3
    assert store.get(names[0]) is not None  # used again: now the youngest
    Store(tmp_path, limit_bytes=3 * one).put(names[3], arrays=sample(), meta={})
    assert [name for name in names if (tmp_path / name).exists()] == [names[0], names[2], names[3]]


@given(limit=st.integers(6_000, 40_000), sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=CALM)
def test_the_store_never_exceeds_its_limit(tmp_path, limit, sizes):
    store = Store(tmp_path / uuid.uuid4().hex, limit_bytes=limit)
    for n, size in enumerate(sizes):
        name = key(n=n, size=size)
        try:
            store.put(name, arrays={"a": np.zeros(size, np.float32)}, meta={})
        except StoreError:
            assert size * 4 > limit - 1000
        else:
            assert store.get(name) is not None
        assert store.size() <= limit


def test_an_entry_larger_than_the_limit_is_refused_and_evicts_nothing(tmp_path):
    store = Store(tmp_path, limit_bytes=10_000)
    store.put(KEY, arrays={"a": np.zeros(100, np.float32)}, meta={})
    with pytest.raises(StoreError, match="raise the limit"):
        store.put(OTHER, arrays={"a": np.zeros(3000, np.float32)}, meta={})
    assert store.get(KEY) is not None


def test_leftovers_older_than_an_hour_are_swept_and_younger_ones_stay(tmp_path):
    old, young = tmp_path / f"{PASSING}old", tmp_path / f"{PASSING}young"
    for folder in (old, young):
        folder.mkdir()
        (folder / ARRAYS).write_bytes(b"half")
    os.utime(old, (time.time() - 3700, time.time() - 3700))
    Store(tmp_path, limit_bytes=None).put(KEY, arrays={}, meta={})
    assert not old.exists()
    assert young.exists()


def test_a_folder_that_is_not_ours_is_never_touched(tmp_path):
    stranger = tmp_path / "my thesis"
    stranger.mkdir()
    os.utime(stranger, (0, 0))
    Store(tmp_path, limit_bytes=2000).put(KEY, arrays={}, meta={})
    assert stranger.exists()


# Disks that refuse


def test_a_full_disk_is_a_store_error_and_leaves_nothing(tmp_path, monkeypatch):
    store = Store(tmp_path, limit_bytes=None)
    real = os.fsync
    calls = {"left": 0}

    def full(descriptor: int) -> None:
        if calls["left"] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls["left"] -= 1
        real(descriptor)

    for survived in range(3):  # arrays, meta, folder
        calls["left"] = survived
        monkeypatch.setattr(store_module.os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            store.put(KEY, arrays=sample(), meta={})
        monkeypatch.undo()
        assert store.get(KEY) is None
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_really_full_disk_is_a_store_error_and_keeps_what_it_has(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("this sandbox does not allow mounting")
    try:
        store = Store(disk / "store", limit_bytes=None)
        store.put(KEY, arrays=sample(), meta={})
        with pytest.raises(StoreError, match="No space left"):
            store.put(OTHER, arrays={"a": np.zeros(500_000, np.uint8)}, meta={})
        assert store.get(KEY) is not None
        assert store.get(OTHER) is None
        assert passing(disk / "store") == []
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert store.get(KEY) is not None
        with pytest.raises(StoreError, match="Read-only"):
            store.put(OTHER, arrays={}, meta={})
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_root_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    store = Store(tmp_path / "file" / "store", limit_bytes=None)
    with pytest.raises(StoreError, match="CMSSD_CACHE_DIR"):
        store.put(KEY, arrays={}, meta={})


def test_running_out_of_file_handles_does_not_cost_a_sound_entry(tmp_path, monkeypatch):
    store = Store(tmp_path, limit_bytes=None)
    store.put(KEY, arrays=sample(), meta={})

    def none_left(self: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "read_bytes", none_left)
    with pytest.raises(StoreError, match="Too many open files"):
        store.get(KEY)
    monkeypatch.undo()
    assert store.get(KEY) is not None


# Many at once

WRITER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    import numpy as np
    from cmssd_core.machine.store import Store, key

    store = Store(Path(sys.argv[1]), limit_bytes=int(sys.argv[4]) or None)
    seed, until = int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
    names = [key(n=n) for n in range(3)]
    rounds = hits = 0
    print("ready", flush=True)
    while time.monotonic() < until:
        n = rounds % 3
        arrays = {"a": np.full(20_000, n, np.int32), "by": np.full(2, seed)}
        store.put(names[n], arrays=arrays, meta={"n": n, "by": seed})
        entry = store.get(names[n])
        if entry is not None:
            assert (entry.arrays["a"] == n).all() and entry.meta["n"] == n, "mixed entry"
            assert (entry.arrays["by"] == entry.meta["by"]).all(), "arrays of one writer, meta of the other"
            hits += 1
        if (rounds + seed) % 5 == 0:
            folder = Path(sys.argv[1]) / names[(n + 1) % 3]
            try:
                (folder / "arrays.safetensors").write_bytes(b"torn")  # the worst neighbour
            except OSError:
                pass
        rounds += 1
    print(rounds, hits)
    """
)


def writer(root: Path, *, seed: int, seconds: float, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), str(seed), str(seconds), str(limit)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


@pytest.mark.parametrize("limit", [0, 200_000])
def test_two_processes_at_the_same_keys_never_mix_or_fail(tmp_path, limit):
    processes = [writer(tmp_path, seed=seed, seconds=2, limit=limit) for seed in (1, 2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        rounds, hits = out.splitlines()[-1].split()
        assert int(hits) > 0.5 * int(rounds)
    assert passing(tmp_path) == []


def test_a_process_killed_while_writing_leaves_only_whole_entries_and_sweepings(tmp_path):
    """Kills a writer at 8 moments a few milliseconds apart; -9 leaves no chance to tidy up."""
    store = Store(tmp_path, limit_bytes=None)
    names = [key(n=n) for n in range(3)]
    for attempt in range(8):
        process = writer(tmp_path, seed=attempt, seconds=60)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.003 + 0.0107 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for path in tmp_path.iterdir():
            assert path.name in names or path.name.startswith(PASSING)
        for n, name in enumerate(names):
            entry = store.get(name)
            assert entry is None or (entry.arrays["a"] == n).all()
    for path in passing(tmp_path):
        os.utime(path, (0, 0))
    store.put(KEY, arrays={}, meta={})
    assert passing(tmp_path) == []


def test_threads_share_one_store(tmp_path):
    store = Store(tmp_path, limit_bytes=100_000)
    barrier = threading.Barrier(8)

    def work(thread: int) -> int:
        barrier.wait()
        hits = 0
        for n in range(30):
            name = key(n=n % 4)
            store.put(name, arrays={"a": np.full(5_000, n % 4, np.int32)}, meta={"n": n % 4})
            entry = store.get(name)
            if entry is not None:
                assert (entry.arrays["a"] == entry.meta["n"]).all()
                hits += 1
        return hits

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) > 100
    assert passing(tmp_path) == []
    assert store.size() <= 100_000
