"""The Debian packages in the corpus, and how much text is taken from each."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["commands", "system", "docs", "glosses"]


@dataclass(frozen=True)
class Source:
    """One Debian package and the files to read from it."""

    package: str
    kind: Kind
    weight: int = 1
    """Number of times its training text is repeated in the mix."""
    cap_mb: float = 3.0
    """Largest amount of cleaned text to keep, in megabytes."""
    globs: tuple[str, ...] = ("usr/share/man/man*/*", "usr/share/info/*.info*")


def _commands(weight: int, *packages: str) -> list[Source]:
    return [Source(package, "commands", weight) for package in packages]


def _docs(package: str, cap_mb: float, *globs: str) -> Source:
    return Source(package, "docs", 1, cap_mb, globs)


SOURCES: tuple[Source, ...] = (
    *_commands(3, "git-man", "docker.io", "kubernetes-client", "coreutils", "bash"),
    *_commands(3, "findutils", "grep", "sed", "tar", "procps", "curl", "rsync", "openssh-client"),
    *_commands(3, "diffutils", "less", "gzip", "xz-utils", "wget", "psmisc", "lsof", "passwd"),
    *_commands(3, "cron", "sudo", "zip", "unzip", "util-linux", "net-tools", "make", "jq"),
    *_commands(2, "gawk", "iproute2", "systemd", "podman", "buildah", "tmux", "screen"),
    *_commands(2, "apt", "dpkg", "gnupg", "gpg", "e2fsprogs", "nftables", "iptables"),
    *_commands(1, "mount", "login", "bsdutils", "bsdextrautils", "file", "patch", "tree"),
    *_commands(1, "subversion", "network-manager", "lvm2", "parted", "btrfs-progs"),
    *_commands(1, "vim-common", "nano", "skopeo", "strace", "at", "cpio", "bzip2"),
    Source("bash-doc", "commands", 2, 1.0, ("usr/share/info/*.info*",)),
    Source("docker-doc", "commands", 3, 2.0, ("usr/share/doc/docker-doc/**/*.md*",)),
    Source(
        "git-doc",
        "commands",
        3,
        2.0,
        ("usr/share/doc/git-doc/user-manual.html", "usr/share/doc/git-doc/howto/*.html"),
    ),
    Source("manpages", "system", cap_mb=2.0),
    Source("manpages-dev", "system", cap_mb=1.0),
    Source("openssl", "system", cap_mb=1.0),
    Source("perl-doc", "system", cap_mb=1.5),
    _docs("debian-reference-en", 2.0, "usr/share/**/*.en.html"),
    _docs("debian-handbook", 2.5, "usr/share/doc/debian-handbook/html/en-US/*.html"),
    _docs("maint-guide", 0.5, "usr/share/doc/maint-guide/html/*.en.html"),
    _docs("debian-policy", 1.0, "usr/share/doc/debian-policy/policy.html/*.html"),
    _docs("aptitude-doc-en", 1.0, "usr/share/doc/aptitude/html/en/*.html"),
    _docs("installation-guide-amd64", 1.5, "usr/share/doc/installation-guide-amd64/en/*.html"),
    _docs("python3.11-doc", 3.0, "usr/share/doc/python3.11/html/*/*.html"),
    _docs("sqlite3-doc", 2.0, "usr/share/doc/sqlite3/*.html"),
    _docs("postgresql-doc-15", 2.5, "usr/share/doc/postgresql-doc-15/html/*.html"),
    Source("wordnet-base", "glosses", 1, 4.0, ("usr/share/wordnet/data.*",)),
)
