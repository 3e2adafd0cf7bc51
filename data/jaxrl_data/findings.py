"""What is wrong with a data set, one line per fault."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.table import Column, Table

ERROR, WARNING = "error", "warning"
LISTED = 20  # findings of one kind; the rest is counted


class Finding(NamedTuple):
    """An error makes training wrong or impossible; a warning is something to look at."""

    severity: str
    fault: str  # its kind, in two or three words
    where: str  # file, split or episode
    key: str
    expected: str
    found: str


def error(fault: str, where: str, key: str, expected: str, found: str) -> Finding:
    """A finding that `jaxrl data validate` fails for."""
    return Finding(ERROR, fault, where, key, expected, found)


def warning(fault: str, where: str, key: str, expected: str, found: str) -> Finding:
    """A finding that it only shows."""
    return Finding(WARNING, fault, where, key, expected, found)


def collect(findings: Iterable[Finding], listed: int = LISTED) -> tuple[Finding, ...]:
    """Errors first; of each kind and key no more than `listed`, and a line that counts the others: memory does not grow with faults."""
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    more: dict[tuple[str, str, str], int] = {}
    for one in findings:
        kind = one.severity, one.fault, one.key
        held = kinds.setdefault(kind, [])
        if len(held) < listed:
            held.append(one)
        else:
            more[kind] = more.get(kind, 0) + 1
    result = []
    for kind in sorted(kinds, key=lambda kind: kind[0] != ERROR):  # stable: else in the order in which they were met
        result += kinds[kind]
        if kind in more:
            result.append(kinds[kind][-1]._replace(where=f"and {more[kind]:,} more", expected="", found=""))
    return tuple(result)


def failed(findings: Iterable[Finding]) -> bool:
    """Whether there is an error among them."""
    return any(one.severity == ERROR for one in findings)


def table(findings: Iterable[Finding]) -> Table:
    """For a terminal."""
    shown = Table("severity", *(Column(name, overflow="fold") for name in ("fault", "where", "key", "expected", "found")))
    for one in findings:
        shown.add_row(f"[bold {'red' if one.severity == ERROR else 'yellow'}]{one.severity}[/]", *map(_plain, one[1:]))
    return shown


def _plain(text: str) -> str:
    return text.replace("[", r"\[")  # no markup
