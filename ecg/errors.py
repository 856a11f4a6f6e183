"""What can be wrong with an ECG, with the file that carries it, or with a stored model.

A message says what is wrong, where, and what would be right. It never holds a sample's or a
patient's value, so that it can be logged and sent back.
"""

from __future__ import annotations


class EcgError(Exception):
    """A refusal. `where` is a path such as `records[3].fs`; `problem` says what is wrong."""

    def __init__(self, problem: str, where: str = "") -> None:
        super().__init__(problem, where)
        self.problem = problem
        self.where = where

    def within(self, outer: str) -> EcgError:
        """The same refusal seen from outside: `within("records[3]")` of `fs`: `records[3].fs`."""
        joint = "" if not self.where or self.where.startswith("[") else "."
        return type(self)(self.problem, f"{outer}{joint}{self.where}")

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem


class UnreadableError(EcgError):
    """The bytes are not what they claim to be."""


class UnknownFormatError(EcgError):
    """No reader recognises the bytes."""


class TooLargeError(EcgError):
    """Larger, packed or unpacked, than the reader was allowed to take."""


class UnservableError(EcgError):
    """Read, but not something that can be answered: fs, units or leads missing or impossible."""


class StoreError(EcgError):
    """A stored model is incomplete, altered, or does not run here."""
