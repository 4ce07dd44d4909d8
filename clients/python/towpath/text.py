"""Text from outside made fit for a terminal; pure.

Names and error messages come from web pages. An escape sequence in one of them must not move somebody's cursor.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` on one line, without anything that a terminal would act on."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def size_text(size: int) -> str:
    """Bytes for people, in powers of ten: `512 B`, `9.6 kB`, `1.2 MB`."""
    if size < 1000:
        return f"{size} B"
    amount, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if amount < 999.95:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}"


def safe_file_name(text: str) -> str:
    """The last part of a name from outside as a file name here: no folder, not hidden; may be empty."""
    return printable(text).replace("\\", "/").rpartition("/")[2].lstrip(".").strip()
