"""python -m tests.service.fuzz URL: damaged requests to a running service, on the wire.

Heads, queries, chunks, multipart bodies and files are changed somehow; requests follow each other
in one piece, come slowly, in any pieces, or end in the middle. Whatever comes, each answer must be
one that the service means to give (no 5xx but for too much to do, no traceback, errors as problem
documents), each connection must come to an end in time, the process must live, and after every few
hundred cases a good request must get the good answer and memory must be where it was.

A long run goes by slices, as that of the readers: --slices 100 --n 1000 --results runs/fuzz.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import re
import sys
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from ecg.formats import WRITERS
from service import examples
from tests import campaign
from tests.ecg.formats.fuzz import mutated

AT_ONCE = 8
PATIENCE_S = 0.3  # for the answer to a request that may be unfinished
HANGS_S = 90.0
LEAK_MIB = 150.0  # that a service may grow by in a slice
MOST_BYTES = 64 * 2**20  # of answers on a connection

RECORD = orjson.dumps(examples.RECORD)
FILES = {
    "application/json": RECORD,
    "application/fhir+json": orjson.dumps(examples.OBSERVATION),
    **{
        media_type: WRITERS[name].write([examples.EXCERPT])
        for name, media_type in (("npz", "application/x-npz"), ("hdf5", "application/x-hdf5"))
    },
    **{
        media_type: WRITERS[name].write(examples.EXCERPT)
        for name, media_type in (
            *(("csv", "text/csv"), ("wfdb", "application/zip"), ("edf", "application/edf")),
            ("dicom", "application/dicom"),
        )
    },
}
QUERIES = (
    b"fs=100&leads=II&units=mV",
    b"explain=1",
    b"format=fhir&fhir=R5",
    b"record=0&start_s=1.5&explain=0",
    b"fs=%31%30%30&fs=&units=%FF%00&leads=II%2CII",
)
ODD_FIELDS = (
    b"Content-Length: 10",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"Content-Type: multipart/form-data",
    b"Content-Type: multipart/form-data; boundary=" + b"b" * 300,
    b"Accept: application/fhir+json;fhirVersion=5.0, */*;q=0",
    b"Accept: " + b"a/b," * 500,
    b"Expect: 100-continue",
    b"Connection: Upgrade, close",
    b"Upgrade: websocket",
    b"Host: y",
    b"X: " + b"\xff" * 100,
    b"Cookie: " + b"a=b; " * 200,
    b"Authorization: Bearer " + b"x" * 200,
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
PATHS = (b"/classify", b"/classify", b"/print", b"/strip", b"/synthesize")


@dataclass(frozen=True)
class Case:
    """What is sent, piece by piece with pauses between. `complete`: an answer must come."""

    kind: str
    pieces: tuple[bytes, ...]
    complete: bool = False
    pause_s: float = 0.0


def case_of(seed: int, number: int) -> Case:
    """The same whenever it is asked for."""
    rng = random.Random(f"http/{seed}/{number}")
    kind = rng.choice(tuple(KINDS))
    return KINDS[kind](kind, rng)


def _request(
    rng: random.Random, body: bytes, media_type: bytes, more: tuple[bytes, ...] = ()
) -> bytes:
    """A good one, to one of the endpoints."""
    return _head(rng, media_type, b"Content-Length: %d" % len(body), *more) + body


def _head(rng: random.Random, media_type: bytes, *fields: bytes) -> bytes:
    path = rng.choice(PATHS)
    if path == b"/synthesize":
        path = b"/classify"  # of which ECGs are the body
    query = b"?" + rng.choice(QUERIES) if rng.random() < 0.3 else b""
    lines = (b"POST %b%b HTTP/1.1" % (path, query), b"Host: x", b"Content-Type: " + media_type)
    return b"\r\n".join((*lines, *fields)) + b"\r\n\r\n"


def _good(rng: random.Random) -> tuple[bytes, bytes]:
    """A body and its type."""
    media_type = rng.choice(tuple(FILES))
    return FILES[media_type], media_type.encode()


def _damaged_file(kind: str, rng: random.Random) -> Case:
    body, media_type = _good(rng)
    return Case(kind, (_request(rng, mutated(body, rng), media_type),), complete=True)


def _damaged_order(kind: str, rng: random.Random) -> Case:
    """A request for ECGs: its numbers are kept small, since each costs."""
    order = {"n": 1, "num_steps": 1, "seed": 7, "age": 63, "sex": "female", "statements": ["AFIB"]}
    body = mutated(orjson.dumps(order), rng)
    if any(int(digits[:9]) > 4 for digits in re.findall(rb'"n[^"]*":\s*(\d+)', body)):
        body = b"{" + body
    head = b"POST /synthesize HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return Case(kind, (head + body,), complete=True)


def _damaged_head(kind: str, rng: random.Random) -> Case:
    body, media_type = _good(rng)
    request = _request(rng, body, media_type, (rng.choice(ODD_FIELDS),) * rng.randint(0, 2))
    head, _, rest = request.partition(b"\r\n\r\n")
    return Case(kind, (mutated(head, rng) + b"\r\n\r\n" + rest,))


def _damaged_query(kind: str, rng: random.Random) -> Case:
    body, media_type = _good(rng)
    query = mutated(rng.choice(QUERIES), rng)
    sent = urllib.parse.quote_from_bytes(query, "=&%").encode() if rng.random() < 0.7 else query
    path = rng.choice(PATHS[:-1])
    head = b"POST %b?%b HTTP/1.1\r\nHost: x\r\nContent-Type: %b\r\n" % (path, sent, media_type)
    return Case(kind, (head + b"Content-Length: %d\r\n\r\n" % len(body) + body,))


def _chunks(kind: str, rng: random.Random) -> Case:
    body, media_type = _good(rng)
    cuts = sorted(rng.randrange(len(body)) for _ in range(rng.randint(0, 5)))
    parts = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    if rng.random() < 0.8:
        chunked = mutated(chunked, rng)
    return Case(kind, (_head(rng, media_type, b"Transfer-Encoding: chunked") + chunked,))


def _multipart(kind: str, rng: random.Random) -> Case:
    body = b""
    for _ in range(rng.randint(1, 3)):
        content, media_type = _good(rng)
        disposition = b'Content-Disposition: form-data; name="file"; filename="a"\r\n'
        body += b"--b\r\n" + disposition + b"Content-Type: " + media_type + b"\r\n\r\n"
        body += content[: rng.choice((50, 100_000))] + b"\r\n"
    body = mutated(body + b"--b--\r\n", rng)
    return Case(kind, (_request(rng, body, b"multipart/form-data; boundary=b"),), complete=True)


def _pipelined(kind: str, rng: random.Random) -> Case:
    requests = [_request(rng, *_good(rng)) for _ in range(rng.randint(2, 4))]
    which = rng.randrange(len(requests))
    if rng.random() < 0.7:
        requests[which] = mutated(requests[which], rng)
    return Case(kind, (b"".join(requests),))


def _slow(kind: str, rng: random.Random) -> Case:
    """In a few pieces, perhaps not all of them."""
    request = _request(rng, *_good(rng))
    cuts = sorted(rng.randrange(1, len(request)) for _ in range(rng.randint(1, 4)))
    pieces = [request[a:b] for a, b in zip([0, *cuts], [*cuts, len(request)], strict=True) if a < b]
    whole = rng.random() < 0.5
    pieces = pieces if whole else pieces[:-1]
    return Case(kind, tuple(pieces), complete=whole, pause_s=0.02)


def _nonsense(kind: str, rng: random.Random) -> Case:
    return Case(kind, (rng.randbytes(rng.choice((1, 20, 500, 5000))),))


KINDS: dict[str, Callable[[str, random.Random], Case]] = {
    "a damaged file": _damaged_file,
    "a damaged order": _damaged_order,
    "a damaged head": _damaged_head,
    "a damaged query": _damaged_query,
    "chunks": _chunks,
    "multipart": _multipart,
    "requests in one go": _pipelined,
    "slow or unfinished": _slow,
    "nonsense": _nonsense,
}


async def send(port: int, case: Case) -> tuple[str, str]:
    """The statuses that came, in words, and what was wrong."""
    try:
        async with asyncio.timeout(HANGS_S):
            return judge(await _exchange(port, case), case)
    except TimeoutError:
        return "none", "hangs"


async def _exchange(port: int, case: Case) -> bytes:
    """All that comes back, until the other side closes or we have waited long enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=MOST_BYTES)
    got = b""
    try:
        for piece in case.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(case.pause_s)
        while not (case.complete and _whole(got)):
            patience = HANGS_S if case.complete and not got else PATIENCE_S
            try:
                async with asyncio.timeout(patience):
                    piece = await reader.read(2**16)
            except TimeoutError:
                if patience == HANGS_S:
                    raise
                break
            if not piece:
                break
            got += piece
        writer.write_eof()
        while piece := await reader.read(2**16):  # it must close, too
            got += piece
    except (ConnectionResetError, BrokenPipeError):
        pass  # it did not want to read the rest
    except OSError as error:
        if "not connected" not in str(error):
            raise
    finally:
        writer.transport.abort()
    return got


_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3})[^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


def _whole(got: bytes) -> bool:
    """Whether the first answer that is not 100 is there."""
    at = 0
    while match := _ANSWER.match(got, at):
        if match[1] != b"100":
            return len(got) - match.end() >= _length(match[2])
        at = match.end()
    return False


def _length(head: bytes) -> int:
    found = re.search(rb"^content-length: (\d+)", head, re.I | re.M)
    return int(found[1]) if found else 0


def judge(got: bytes, case: Case) -> tuple[str, str]:
    """As `send`."""
    statuses, at, wrong = [], 0, ""
    bodiless = b"HEAD " in b"".join(case.pieces)
    while match := _ANSWER.match(got, at):
        status, head = int(match[1]), match[2].lower()
        body = got[match.end() : match.end() + _length(head)]
        at = match.end() + (0 if bodiless and status < 400 else len(body))
        statuses.append(str(status))
        if status >= 500 and not (status == 503 and b"/problems/" in body):
            wrong = f"answers {status}"
        elif status >= 400 and b"application/problem+json" not in head and not bodiless:
            wrong = f"answers {status} with no problem document"
        elif b"Traceback" in body:
            wrong = "shows a traceback"
    if at < len(got) and not bodiless and not got[at:].startswith(b"HTTP/1.1"):
        wrong = wrong or "answers something that is not HTTP"
    if case.complete and not statuses:
        wrong = wrong or "does not answer"
    return " ".join(statuses) or "none", wrong


class Watch:
    """A service between slices: alive, right and no larger."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.good = self.answer()
        self.pids = self.workers()
        self.memory = self.resident()

    def answer(self) -> Any:
        answer = httpx.post(f"{self.url}/classify", content=RECORD, timeout=HANGS_S)
        return answer.status_code, answer.json().get("results")

    def workers(self) -> set[int]:
        """The processes that listen at the port, by the kernel's own table."""
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        rows = [line.split() for line in table]
        port = f":{self.port:04X}"
        inodes = {row[9] for row in rows if row[1].endswith(port) and row[3] == "0A"}
        return {
            int(link.parts[2])
            for link in Path("/proc").glob("[0-9]*/fd/*")
            if _socket_inode(link) in inodes
        }

    def resident(self) -> float:
        """MiB of all of them together."""
        total = 0.0
        for pid in self.pids:
            status = Path(f"/proc/{pid}/status").read_text()
            found = re.search(r"VmRSS:\s+(\d+) kB", status)
            total += int(found[1]) / 1024 if found else 0.0
        return total

    def wrong(self) -> list[str]:
        found = []
        if self.answer() != self.good:
            found.append("a good request no longer gets the good answer")
        if (pids := self.workers()) != self.pids:
            found.append("a process has ended")
            self.pids = pids
        memory = self.resident()
        if memory > self.memory + LEAK_MIB:
            found.append(f"grew from {self.memory:.0f} to {memory:.0f} MiB")
            self.memory = memory
        return found


def _socket_inode(link: Path) -> str:
    try:
        target = link.readlink().as_posix()
    except OSError:
        return ""
    return target.removeprefix("socket:[").removesuffix("]") if "socket:" in target else ""


async def run(port: int, seed: int, n: int) -> tuple[collections.Counter[str], list[dict]]:
    """How often each "kind: statuses" came, and what was wrong."""
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[dict] = []
    numbers = iter(range(n))

    async def client() -> None:
        for number in numbers:
            case = case_of(seed, number)
            statuses, found = await send(port, case)
            counts[f"{case.kind}: {statuses}"] += 1
            if found:
                wrong.append({"case": number, "kind": case.kind, "wrong": found})

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return counts, wrong


def save(port: int, seed: int, number: int, folder: Path) -> str:
    """The case's bytes, as few as still go wrong, in `folder`."""
    case = case_of(seed, number)

    def fails(sent: bytes) -> bool:
        one = Case(case.kind, (sent,), case.complete)
        return bool(asyncio.run(send(port, one))[1])

    sent = b"".join(case.pieces)
    if not fails(sent):
        return "not again"
    target = folder / f"http-{seed}-{number}.bin"
    folder.mkdir(parents=True, exist_ok=True)
    target.write_bytes(campaign.smaller(sent, fails) if not case.complete else sent)
    return target.name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="http://127.0.0.1:PORT, on this machine")
    campaign.add_arguments(parser, n=1000)
    args = parser.parse_args()
    watch = Watch(args.url)

    def one_slice(seed: int) -> dict[str, Any]:
        counts, wrong = asyncio.run(run(watch.port, seed, args.n))
        for one in wrong:
            if args.results:
                one["file"] = save(watch.port, seed, one["case"], args.results)
        wrong += [{"wrong": what} for what in watch.wrong()]
        memory = round(watch.resident())
        cases = sum(counts.values())
        return {"cases": cases, "outcomes": counts, "wrong": wrong, "resident_mib": memory}

    cases = n_wrong = 0
    total: collections.Counter[str] = collections.Counter()
    for result in campaign.go_through(args, "http", one_slice):
        total.update(result["outcomes"])
        for one in result["wrong"]:
            print(json.dumps({"seed": result["seed"], **one}), flush=True)
        cases, n_wrong = cases + result["cases"], n_wrong + len(result["wrong"])
    for name, count in sorted(total.items()):
        print(f"{count:7} {name}")
    print(f"{cases} cases, {n_wrong} wrong")
    sys.exit(bool(n_wrong))


if __name__ == "__main__":
    main()
