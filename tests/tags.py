"""The tags of a run, from the list in docs/tags.md, which a test holds equal to the program's own table."""

import pathlib
import re

ROW = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<directory>\w+) \| (?P<plugin>\w+) \| (?P<measured>yes|no) \|")
LIST = pathlib.Path(__file__).resolve().parent.parent / "docs/tags.md"
TABLE = [row.groupdict() for row in map(ROW.match, LIST.read_text().splitlines()) if row]


def known(directory, name):
    """A tag by its name, which must be in the list."""
    if not any((row["directory"], row["name"]) == (directory, name) for row in TABLE):
        raise KeyError(f"{name} of {directory}/ is not in {LIST}")
    return name


def measured(tag):
    """Whether the values depend on the machine and its load, so that they differ from run to run."""
    return any(row["measured"] == "yes" and row["name"] == tag for row in TABLE)

