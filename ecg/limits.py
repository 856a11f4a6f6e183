"""How much a reader takes of what a file claims, before anything is allocated for it.

The defaults are the wire contract's, or what no ECG comes near. What a format itself never has more
of (SCP-ECG's 255 leads, the 12 of ISHNE) stays with the format; where one of these is lower, it
counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from ecg.errors import TooLargeError

MIB = 1024 * 1024
SAMPLE_BYTES = 4  # float32, which samples become


@dataclass(frozen=True)
class Limits:
    """`max_unpacked`: bytes of what is unpacked for a request, and of its samples as float32;
    `max_numbers`: of a JSON body, each an object before it is a sample; `max_…_elements`: in JSON
    objects, lists and strings, in XML elements and attributes, in DICOM elements and items."""

    max_unpacked: int = 512 * MIB
    max_files: int = 4096
    max_records: int = 64
    max_channels: int = 512
    min_fs: float = 50.0
    max_fs: float = 4000.0
    min_duration_s: float = 5.0
    max_duration_s: float = 86_400.0
    max_depth: int = 64
    max_numbers: int = 16_000_000
    max_json_elements: int = 1_000_000
    max_xml_elements: int = 200_000
    max_dicom_elements: int = 400_000

    def check_unpacked(self, n_bytes: int, where: str = "") -> None:
        """Errors: TooLargeError where so many bytes are more than may be unpacked."""
        if n_bytes > self.max_unpacked:
            raise TooLargeError(
                f"unpacks to more than this service accepts, {in_mib(self.max_unpacked)}; send "
                "fewer or shorter records",
                where,
            )

    def check_samples(self, n_values: int, where: str = "") -> None:
        """Errors: TooLargeError where so many samples, of all leads and records, are too many."""
        if n_values * SAMPLE_BYTES > self.max_unpacked:
            raise TooLargeError(
                f"holds more samples than this service accepts, {in_mib(self.max_unpacked)}; send "
                "fewer or shorter records",
                where,
            )

    def less(self, n_bytes: int) -> Self:
        """The same for what comes after `n_bytes` were unpacked."""
        return replace(self, max_unpacked=self.max_unpacked - n_bytes)


LIMITS = Limits()


def in_mib(n_bytes: int) -> str:
    return f"{max(n_bytes, 0) / MIB:.4g} MiB"
