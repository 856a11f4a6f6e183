"""A program, run in a process of its own by `hdf5.py`: an HDF5 file on its standard input, one
array and what the file says of it on its standard output.

The HDF5 library is C code that damaged files can crash, hang, or make allocate without bound: here
that ends this process alone, which the kernel keeps to its limits. Out go a line of JSON, either
{"refusal": [kind, problem, where]} or {"name", "shape", "dtype", "fs", "leads", "units"}, and the
samples. Nothing but the one array is read, nor any text but what names fs, leads and units.

    python -P hdf5_apart.py MAX_UNPACKED
"""

from __future__ import annotations

import io
import json
import math
import resource
import sys
from typing import Any

import h5py
from h5py import h5d, h5t, h5z  # pyright: ignore[reportAttributeAccessIssue]

NAMES = ("sig", "tracings", "ecg", "data", "signal")
SAID = {
    "fs": ("fs", "sampling_rate", "sampling_frequency", "sample_rate", "frequency"),
    "leads": ("leads", "channels", "lead_names"),
    "units": ("units", "unit"),
}
SCALED = ("gain", "adc_gain", "scale", "scale_factor", "offset", "add_offset")
MAX_SAID = 64 * 1024  # bytes
FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_LZF)
CPU_S = 2  # for all but the samples
SLOWEST = 25_000_000  # bytes a second: what unpacks slower has more to it than samples
MEMORY = 192 * 1024 * 1024  # of Python, the libraries, and what a file's tables need


class Refused(Exception):
    """kind: unreadable, unservable or too large; problem, where: as an EcgError's."""


def main() -> None:
    max_unpacked = int(sys.argv[1])
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    most = 1 if hard == resource.RLIM_INFINITY else min(1, hard)  # 0 stops no collector: core(5)
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))
    content = sys.stdin.buffer.read()
    limit(CPU_S, MEMORY + 2 * len(content))
    try:
        file = h5py.File(io.BytesIO(content), "r")
        name, dataset = found(file)
        check(dataset, name, max_unpacked)
        head = {"name": name, "shape": dataset.shape, "dtype": dataset.dtype.str}
        head |= {key: said(file, dataset, names) for key, names in SAID.items()}
        n_bytes = dataset.size * dataset.dtype.itemsize
        limit(CPU_S + n_bytes // SLOWEST, MEMORY + 2 * len(content) + 2 * n_bytes)
        samples = dataset[()]
    except Refused as refusal:
        answer({"refusal": refusal.args})
    except Exception:  # the library raises many kinds; all mean that the bytes are not HDF5
        problem = "an HDF5 file that is damaged, or takes more memory than its size allows"
        answer({"refusal": ("unreadable", problem, "")})
    else:
        answer(head)
        sys.stdout.buffer.write(memoryview(samples).cast("B") if n_bytes else b"")
        sys.stdout.buffer.flush()


def limit(cpu_s: int, memory: int) -> None:
    """Of the whole process, from its start on. What is beyond ends it, or fails in the library."""
    for what, most in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_DATA, memory)):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(
            what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )


def answer(head: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n")
    sys.stdout.buffer.flush()


def found(file: h5py.File) -> tuple[str, h5py.Dataset]:
    """The first of NAMES in the root that is there."""
    for name in NAMES:
        if (dataset := child(file, name)) is not None:
            return name, dataset
    raise Refused("unservable", f"an HDF5 file whose root has none of {', '.join(NAMES)}", "")


def child(file: h5py.File, name: str) -> h5py.Dataset | None:
    """The root's dataset of this name. No link is followed: it could lead out of the file."""
    link = file.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise Refused("unservable", "is a soft or external link; none is followed", name)
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise Refused("unservable", "is not a dataset", name)
    layout = dataset.id.get_create_plist()
    if layout.get_layout() == h5d.VIRTUAL or layout.get_external_count():
        raise Refused("unservable", "takes its samples from other files; send them in it", name)
    return dataset


def check(dataset: h5py.Dataset, name: str, max_unpacked: int) -> None:
    """That the samples are numbers, in units, and no more than may be unpacked."""
    plain(dataset.id.get_type(), name, (h5t.INTEGER, h5t.FLOAT))
    if dataset.dtype.itemsize > 8:
        raise Refused("unservable", f"has type {dataset.dtype}, expected float32 or int16", name)
    if dataset.shape is None:
        raise Refused("unservable", "is empty", name)
    n_bytes = math.prod(dataset.shape) * dataset.dtype.itemsize
    if max(n_bytes, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize) > max_unpacked:
        problem = "unpacks to more than this service accepts; send fewer or shorter records"
        raise Refused("too large", problem, name)
    layout = dataset.id.get_create_plist()
    for i in range(layout.get_nfilters()):
        if layout.get_filter(i)[0] not in FILTERS:
            problem = "is packed otherwise than by gzip, lzf, shuffle and checksums"
            raise Refused("unservable", problem, name)
    for scaled in SCALED:
        if scaled in dataset.attrs:
            problem = f"has an attribute {scaled}; samples are read in their units, never scaled"
            raise Refused("unservable", problem, name)


def plain(kind: h5t.TypeID, where: str, classes: tuple[int, ...]) -> None:
    if kind.get_class() not in classes:
        raise Refused("unservable", "holds neither numbers nor, where names belong, text", where)


def said(file: h5py.File, dataset: h5py.Dataset, names: tuple[str, ...]) -> Any:
    """A value or a list: of the dataset's attributes, the root's, or a dataset beside it."""
    for attributes in (dataset.attrs, file.attrs):
        for name in names:
            if name in attributes:
                small(attributes.get_id(name), name)
                return as_text(attributes[name])
    for name in names:
        if (beside := child(file, name)) is not None:
            small(beside.id, name)
            return as_text(beside[()])
    return None


def small(held: Any, name: str) -> None:
    """That an attribute or a dataset is numbers or text, and not much of it."""
    plain(held.get_type(), name, (h5t.INTEGER, h5t.FLOAT, h5t.STRING))
    if held.shape is None or math.prod(held.shape) * held.get_type().get_size() > MAX_SAID:
        raise Refused("unservable", "is empty or too long", name)


def as_text(value: Any) -> Any:
    """As JSON has it."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [as_text(one) for one in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
