"""Step 1: download Debian packages, extract their prose, and write the text shards.

Needs a Debian system (apt-get, dpkg, mandoc). Writes `train.jsonl`, `heldout.jsonl` (one document
per line: source, kind, weight, text) and `sources.json` (package, version, licence, bytes).
"""

import argparse
import gzip
import hashlib
import json
import re
import subprocess
import unicodedata
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from extract import Document, read_html, read_info, read_man, read_markdown, read_wordnet
from sources import SOURCES, Source

SEED = "builtin-base-1"
HELDOUT_PERCENT = 3
LONG_PARAGRAPH = 80
"""Paragraphs at least this long are kept once in the whole corpus."""

LICENCE_NAMES = (
    "GNU General Public License",
    "GNU Free Documentation License",
    "GNU GPL",
    "LGPL-2.1",
    "Info-ZIP license",
    "Python license",
    "Artistic License",
    "Apache License",
)
"""Names to look for in copyright files that are not machine-readable."""


@dataclass(frozen=True)
class SourceRow:
    """One row of the sources table."""

    package: str
    version: str
    licence: str
    kind: str
    weight: int
    documents: int
    train_bytes: int
    heldout_bytes: int


def fetch(package: str, work: Path) -> Path | None:
    """Download and unpack one package; return None if Debian does not have it."""
    debs, root = work / "debs", work / "root" / package
    for folder in (debs, root.parent):
        folder.mkdir(parents=True, exist_ok=True)
    if not list(debs.glob(f"{package}_*.deb")):
        subprocess.run(
            ["apt-get", "download", "-q", package], cwd=debs, capture_output=True, check=False
        )
    found = sorted(debs.glob(f"{package}_*.deb"))
    if not found:
        return None
    if not root.exists():
        subprocess.run(["dpkg", "-x", str(found[-1]), str(root)], check=True)
    return root


def version_of(package: str, work: Path) -> str:
    """Return the version in the name of the downloaded file."""
    name = sorted((work / "debs").glob(f"{package}_*.deb"))[-1].name
    return name.split("_")[1].replace("%3a", ":")


def licence_of(package: str, work: Path) -> str:
    """Return the licence in the copyright file for all files, or else those it mentions."""
    folder = work / "root" / package / "usr/share/doc" / package
    if folder.is_symlink():
        target = folder.readlink().name
        return licence_of(target, work) if fetch(target, work) else "see its source package"
    text = (folder / "copyright").read_text("utf-8", "replace")
    stanza = re.search(r"^Files:\s*\*\s*\n(?:(?!\n\n)[\s\S])*?^License:[ \t]*(\S.*)$", text, re.M)
    if stanza:
        return stanza[1].strip()
    mentioned = [name for name in LICENCE_NAMES if name in text]
    return ", ".join(mentioned) or "see its copyright file"


def read_file(path: Path) -> list[Document]:
    """Read all documents in one file, whose kind follows from its path."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if "/man/man" in path.as_posix():
        return read_man(raw)
    text = raw.decode("utf-8", "replace")
    name = path.name.removesuffix(".gz")
    if ".info" in name:
        return read_info(text)
    if name.endswith((".html", ".htm")):
        return read_html(text)
    return read_markdown(text) if name.endswith(".md") else read_wordnet(text)


def read_package(source: Source, root: Path) -> list[Document]:
    """Read every document of a package, except question-and-answer pages (FAQs)."""
    paths = {path for pattern in source.globs for path in root.glob(pattern) if path.is_file()}
    paths = {path for path in paths if "faq" not in path.as_posix().lower()}
    paths = {path for path in paths if not path.is_symlink()}
    with ThreadPoolExecutor(2) as pool:
        return [doc for docs in pool.map(read_file, sorted(paths)) for doc in docs]


def clean(document: Document, seen: set[bytes]) -> str:
    """Normalize characters, and drop unreadable paragraphs and repeated long ones."""
    kept: list[str] = []
    for paragraph in document:
        text = unicodedata.normalize("NFKC", paragraph).translate(
            {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2010: "-", 0x2014: "-", 0xB6: ""}
        )
        text = " ".join(text.split())
        letters = sum(char.isascii() and (char.isalpha() or char == " ") for char in text)
        if len(text) < 2 or letters < 0.6 * len(text) or (kept and kept[-1] == text):
            continue
        if len(text) >= LONG_PARAGRAPH:
            digest = hashlib.blake2b(text.lower().encode(), digest_size=8).digest()
            if digest in seen:
                continue
            seen.add(digest)
        kept.append(text)
    return "\n".join(kept)


def bucket(text: str) -> int:
    """Hash the seed and the text to a number from 0 to 9999."""
    return int(hashlib.sha256((SEED + text).encode()).hexdigest()[:8], 16) % 10_000


def documents_of(source: Source, root: Path, seen: set[bytes]) -> list[str]:
    """Return the cleaned documents of a package, in hash order, up to its cap."""
    texts = (clean(document, seen) for document in read_package(source, root))
    ordered = sorted(
        {text for text in texts if len(text) > 200}, key=lambda text: (bucket(text), text)
    )
    kept, room = [], int(source.cap_mb * 1e6)
    for text in ordered:
        if (room := room - len(text.encode())) < 0:
            break
        kept.append(text)
    return kept


def split(texts: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield each text, and True if it is held out."""
    for text in texts:
        yield text, bucket("split" + text) < 100 * HELDOUT_PERCENT


def build(work: Path, out: Path, only: list[str]) -> list[SourceRow]:
    """Write the shards of all sources, or of `only` some, and return the sources table."""
    out.mkdir(parents=True, exist_ok=True)
    rows, seen = [], set[bytes]()
    with (out / "train.jsonl").open("w") as train, (out / "heldout.jsonl").open("w") as heldout:
        for source in (it for it in SOURCES if not only or it.package in only):
            root = fetch(source.package, work)
            if root is None:
                print(f"{source.package}: not available in this Debian, skipped", flush=True)
                continue
            size: Counter[bool] = Counter()
            texts = documents_of(source, root, seen)
            for text, held in split(texts):
                row = {"source": source.package, "kind": source.kind, "weight": source.weight}
                (heldout if held else train).write(json.dumps({**row, "text": text}) + "\n")
                size[held] += len(text.encode())
            rows.append(
                SourceRow(source.package, version_of(source.package, work),
                          licence_of(source.package, work), source.kind, source.weight,
                          len(texts), size[False], size[True])
            )  # fmt: skip
            print(rows[-1], flush=True)
    (out / "sources.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return rows


def main() -> None:
    """Parse the flags and build the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads")
    parser.add_argument("--out", type=Path, required=True, help="folder for the text shards")
    parser.add_argument("--only", nargs="*", default=[], help="packages to use (default: all)")
    flags = parser.parse_args()
    rows = build(flags.work.resolve(), flags.out.resolve(), flags.only)
    total = sum(row.train_bytes for row in rows)
    mixed = sum(row.train_bytes * row.weight for row in rows)
    print(f"train {total / 1e6:.1f} MB ({mixed / 1e6:.1f} MB with weights)")


if __name__ == "__main__":
    main()
