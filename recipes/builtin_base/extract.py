"""Turn manual pages, info files, HTML, Markdown and WordNet data into plain text.

Every reader takes the text of one file and returns documents. A document is a list of paragraphs,
each on a single line, so that a small model does not spend its capacity on layout.
"""

import re
import subprocess

from selectolax.lexbor import LexborHTMLParser

Document = list[str]

DROPPED_SECTIONS = {
    "AUTHOR", "AUTHORS", "BUGS", "COLOPHON", "COPYRIGHT", "COPYING", "GIT", "HISTORY",
    "REPORTING BUGS", "SEE ALSO", "VERSION", "LICENSE", "AVAILABILITY", "TRANSLATION",
    "RESOURCES", "RETURN VALUE", "ERRORS", "VERSIONS", "CONFORMING TO", "STANDARDS",
}  # fmt: skip
"""Sections of manual pages that say little about the command."""

MAN_WIDTH = 1000
"""The widest line that mandoc supports, so that almost every paragraph is one line."""

_BLOCK_TAG = re.compile(
    r"</?(?:p|div|li|dt|dd|h[1-6]|tr|ul|ol|dl|section|blockquote|pre|br|body)\b[^>]*>", re.I
)
_NOISE_TAGS = ["script", "style", "nav", "table", "header", "footer", "head", "svg", "form"]
_WORDNET_LINE = re.compile(r"^\d{8} \d\d [nvars] ([0-9a-f]{2}) (.*?) \| (.*)$")


def squeeze(text: str) -> str:
    """Collapse every run of white space to one space."""
    return " ".join(text.split())


def read_man(raw: bytes) -> list[Document]:
    """Read one manual page (roff) as one document; empty if it only links to another page."""
    if raw.startswith(b".so ") or len(raw) < 200:
        return []
    command = ["mandoc", "-T", "ascii", "-O", f"width={MAN_WIDTH}"]
    shown = subprocess.run(command, input=raw, capture_output=True, check=False).stdout
    text = re.sub(r".\x08", "", shown.decode("ascii", "replace"))
    lines = re.sub(r"(?<=\w)<\?>(?=\w)", "'", text).split("\n")[1:]
    while lines and (not lines[-1].strip() or not lines[-1].startswith(" ")):
        lines.pop()
    return [document] if (document := _man_paragraphs(lines)) else []


def _man_paragraphs(lines: list[str]) -> Document:
    """Join the lines of a rendered page into paragraphs, and options with their descriptions."""
    paragraphs: Document = []
    section, name, current, current_indent, after_blank = "", "", "", 0, True
    for line in [*lines, "END"]:
        indent, text = len(line) - len(line.lstrip()), line.strip()
        if not text:
            after_blank = True
            continue
        joins = not after_blank and (
            section == "SYNOPSIS" or indent > current_indent or len(current) > MAN_WIDTH - 150
        )
        described = current.startswith("-") and indent > current_indent
        if indent and current and (joins or described):
            current += " " + text
        else:
            if section == "NAME" and current and not name:
                name = re.split(r",| -", current)[0].strip()
            if section not in DROPPED_SECTIONS and current:
                paragraphs.append(_named_option(name, current))
            section = text if indent == 0 else section
            current, current_indent = "" if indent == 0 else text, indent
        after_blank = False
    return paragraphs


def _command_of(page: str) -> str:
    """Return the command as typed: "git-add" becomes "git add"."""
    if page.startswith(("docker-", "podman-", "buildah-", "kubectl-")):
        return page.replace("-", " ")
    return re.sub(r"^git-", "git ", page)


def _named_option(name: str, paragraph: str) -> str:
    """Put the command's name before an option, so that the option is learned with it."""
    command = _command_of(name)
    if name and paragraph.startswith(name + " - "):
        return squeeze(command + paragraph[len(name) :])
    prefix = f"{command} " if paragraph.startswith("-") and 0 < len(command) < 40 else ""
    return squeeze(prefix + paragraph)


def _unwrap(text: str) -> Document:
    """Join the wrapped lines of each paragraph; blank lines separate paragraphs."""
    return [squeeze(block) for block in re.split(r"\n\s*\n", text) if block.strip()]


def read_info(text: str) -> list[Document]:
    """Read each node of an info manual as a document, without headers and menus."""
    documents = []
    for node in text.split("\x1f")[1:]:
        if "File:" not in node[:200]:
            continue
        body = node.split("\n", 2)[-1]
        body = re.sub(r"^\* .*\n(?:[ \t]+.*\n)*", "", body, flags=re.M)
        body = re.sub(r"^[=*.-]{4,}\n", "\n", body, flags=re.M)
        documents.append(_unwrap(re.sub(r"[‘’]|[“”]", "'", body)))
    return documents


def read_html(text: str) -> list[Document]:
    """Read the blocks of one HTML page, without navigation, tables and scripts."""
    tree = LexborHTMLParser(text)
    tree.strip_tags(_NOISE_TAGS, recursive=True)
    found = (tree.css_first(selector) for selector in ("[role=main]", "div.body", "main", "body"))
    root = next((node for node in found if node is not None), None)
    if root is None or root.html is None:
        return []
    flat = re.sub(r"\n(?=\s*\S)", " ", root.html)
    marked = LexborHTMLParser(_BLOCK_TAG.sub("\n", flat))
    lines = [squeeze(line) for line in marked.root.text().split("\n")] if marked.root else []
    return [_without_lists_of_links([line for line in lines if line])]


def _without_lists_of_links(lines: list[str], short: int = 45) -> Document:
    """Drop short lines that no long line follows, which keeps headings but not navigation."""
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    return [line for line, after in pairs if len(line) >= short or len(after) >= short]


def read_markdown(text: str) -> list[Document]:
    """Read one Markdown page without front matter, comments, tables and link targets."""
    text = re.sub(r"<!--.*?-->", "", text.lstrip("\ufeff"), flags=re.S)
    text = re.sub(r"\A\s*---\n.*?\n---\s*\n", "", text, flags=re.S)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^(\||```|#+ ).*$", lambda m: m[0].lstrip("# ") if m[1][0] == "#" else "\n",
                  text, flags=re.M)  # fmt: skip
    return [_unwrap(text.replace("`", ""))]


def read_wordnet(text: str, synsets_per_document: int = 40) -> list[Document]:
    """Read glosses of neighbouring synsets as lines like "evasion: the act of escaping"."""
    glosses = []
    for line in text.split("\n"):
        if match := _WORDNET_LINE.match(line):
            count, fields = int(match[1], 16), match[2].split(" ")
            words = [re.sub(r"\(.*\)", "", word) for word in fields[0 : 2 * count : 2]]
            glosses.append(f"{', '.join(words).replace('_', ' ')}: {match[3].strip()}")
    step = synsets_per_document
    return [glosses[at : at + step] for at in range(0, len(glosses), step)]
