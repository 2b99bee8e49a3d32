"""Fetch: the story, from a source to files below autoimport/. Called by `models install` and by the downloader.

A file is looked for where it would be, fetched in a hidden folder, checked, and appears with its sidecar under a name
that nothing else has. The intake does the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from invokeai_daemon import files
from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install import civitai
from invokeai_daemon.models.install.checks import Checksum, digests_of
from invokeai_daemon.models.install.choose import Choice, RepoFile, choose, components_of, index_of
from invokeai_daemon.models.install.download import (
    LONGEST_PAUSE,
    AlreadyThere,
    Download,
    Fetched,
    Limits,
    Note,
    Report,
    Wanted,
)
from invokeai_daemon.models.install.hub import Hub, Repository
from invokeai_daemon.models.install.ledger import Ledger
from invokeai_daemon.models.install.names import has_model_suffix, safe_name, sniffed_suffix, split_ending
from invokeai_daemon.models.install.sources import (
    CivitaiModel,
    HubModel,
    Remote,
    Source,
    StarterName,
    WebFile,
    shown_url,
)
from invokeai_daemon.models.install.staging import has_digest, publish, staged
from invokeai_daemon.models.install.starters import Starter, parser_of, read_starters
from invokeai_daemon.models.install.tokens import Tokens
from invokeai_daemon.models.install.web import Web
from invokeai_daemon.root import Root
from invokeai_daemon.settings import Settings
from invokeai_daemon.strict_toml import dump_toml

#: Where a model goes whose type is not known before it is looked at.
UNSORTED = "installed"

Answer = TypeVar("Answer")

#: Tells what is fetched and how far it is: a name, bytes, bytes in all (None: not known).
Tell = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Order:
    """What to fetch and what to make of it."""

    source: Remote
    #: Where it goes; None: by its type, below autoimport/.
    folder: Path | None = None
    #: The stem that it gets; empty: its own.
    name: str = ""
    checksum: Checksum | None = None
    #: What its sidecar says beside what is found out.
    known: Mapping[str, Any] = field(default_factory=dict)
    #: A sidecar of this stem is there already, and stays as it is.
    has_sidecar: bool = False


@dataclass(frozen=True)
class Arrival:
    """A file or folder that is there now."""

    path: Path
    #: The same content was there before.
    was_there: bool


class Fetcher:
    """Fetches into one root, with its settings and the tokens of its environment."""

    def __init__(
        self,
        root: Root,
        settings: Settings,
        environ: Mapping[str, str],
        tell: Tell = lambda name, done, total: None,
        pause: Callable[[float], None] | None = None,
        allow_private: bool = False,
    ) -> None:
        install = settings.install
        tokens = Tokens.of(install.tokens, environ)
        self._root, self._tell = root, tell
        self._hub = Hub(install.hub_endpoint, tokens, install.timeout_seconds)
        trusted = frozenset({self._hub.host}) if install.hub_endpoint else frozenset[str]()
        self._web = Web(tokens, install.timeout_seconds, allow_private or install.allow_private, trusted)
        self._limits = Limits(
            retries=install.retries,
            timeout=install.timeout_seconds,
            largest=int(install.max_gb * 1e9),
            reserve=int(settings.limits.free_gb * 1e9),
        )
        self._pause = pause or Report().pause
        self._ledger = Ledger(root.state / "installed.json")

    @cached_property
    def starters(self) -> dict[str, Starter]:
        return read_starters(self._root)[0]

    def parse(self, text: str, local: bool = False) -> Source:
        """What a text means here. Raises InstallError."""
        return parser_of(self._root, self._hub.endpoint, local)(text)

    def fetch(self, order: Order) -> list[Arrival]:
        """Bring what an order names into autoimport/.

        Raises FetchInterrupted and DiskFull for what may pass, InstallError for what needs the user.
        """
        match order.source:
            case StarterName(name):
                return self._starter(name, order)
            case HubModel() as source:
                return [self._repository(source, order)]
            case CivitaiModel() as source:
                return [self._civitai(source, order)]
            case WebFile(url):
                return [self._file(url, order)]

    # -- starters --------------------------------------------------------------------------------------------------

    def _starter(self, name: str, order: Order) -> list[Arrival]:
        starter = self.starters.get(name)
        if starter is None:
            raise InstallError(f"{name} is not in configs/INITIAL_MODELS.yaml any more.")
        known = {
            "name": starter.name,
            "description": starter.description or None,
            "trigger_phrases": list(starter.trigger_phrases) or None,
        }
        folder = order.folder or self._root.autoimport / "main"
        arrivals = [self._first(starter, Order(starter.sources[0], folder, order.name, starter.checksum, known))]
        if starter.vae is not None:
            arrivals += self.fetch(Order(starter.vae, self._root.autoimport / "vae"))
        return arrivals

    def _first(self, starter: Starter, order: Order) -> Arrival:
        """From the first place that has it."""
        gone: list[str] = []
        for source in starter.sources:
            try:
                return self.fetch(Order(source, order.folder, order.name, order.checksum, order.known))[0]
            except FetchInterrupted:
                raise
            except InstallError as error:
                gone.append(str(error))
        raise InstallError("\n".join(gone))

    # -- civitai ---------------------------------------------------------------------------------------------------

    def _civitai(self, source: CivitaiModel, order: Order) -> Arrival:
        version = self._patiently(lambda: civitai.look(self._web, source))
        said = {
            "description": version.description or None,
            "trigger_phrases": list(version.trigger_phrases) or None,
            "source_url": version.page or None,
        }
        known = {key: value for key, value in said.items() if value} | dict(order.known)
        folder = order.folder or self._root.autoimport / (version.kind or UNSORTED)
        checksum = order.checksum or version.checksum
        return self._file(version.url, replace(order, folder=folder, checksum=checksum, known=known))

    # -- addresses -------------------------------------------------------------------------------------------------

    def _file(self, url: str, order: Order) -> Arrival:
        folder = self._made(order.folder or self._root.autoimport / UNSORTED)
        with staged(folder, shown_url(url)) as place:
            partial = place / "content"
            wanted = Wanted(url, checksum=order.checksum)
            download = Download(self._web, wanted, partial, self._limits, self._report(shown_url(url)))
            download.known = lambda note: self._fetched_before(note, order.checksum)
            try:
                fetched = download.run()
            except AlreadyThere as there:
                return Arrival(there.path, True)
            self._prove(fetched, url)
            name = self._file_name(fetched, url, order.name)
            arrival = self._publish(partial, folder, name, order, shown_url(url), f"sha256:{fetched.sha256}")
            self._ledger.write(fetched.note, arrival.path)
            return arrival

    def _fetched_before(self, note: Note, checksum: Checksum | None) -> Path | None:
        path = self._ledger.find(note)
        if path is None or (checksum is not None and digests_of(path, checksum).mismatch()):
            return None
        return path

    def _file_name(self, fetched: Fetched, url: str, wanted: str) -> str:
        """The stem that is wanted, else its own, with the ending of a model."""
        with fetched.path.open("rb") as file:
            suffix = sniffed_suffix(file.read(512))
        name = fetched.name
        if not has_model_suffix(name):
            if suffix is None:
                raise InstallError(f"{shown_url(url)}: neither its name ({name}) nor its bytes are a model's.")
            name = f"{name}{suffix}"
        return f"{safe_name(wanted)}{split_ending(name)[1]}" if wanted else name

    def _prove(self, fetched: Fetched, url: str) -> None:
        """A format that tells its length tells whether all of it came."""
        from invokeai_daemon.models.settled import proof

        found = proof(fetched.path)
        if found.state == "incomplete":
            # Without a length nobody knows whether the connection or the file was cut off.
            kind = InstallError if fetched.note.total is not None else FetchInterrupted
            raise kind(f"{shown_url(url)} is not complete: {found.reason}.")

    # -- repositories ----------------------------------------------------------------------------------------------

    def _repository(self, source: HubModel, order: Order) -> Arrival:
        self._tell(str(source), 0, None)
        repository = self._patiently(lambda: self._hub.look(source))
        choice = self._choice(source, repository)
        folder = self._made(order.folder or self._root.autoimport / (self._kind(choice, repository) or UNSORTED))
        name = self._name(choice, order)
        if _is_there(choice, folder / name):
            return Arrival(folder / name, True)
        known = {"trigger_phrases": list(repository.trigger_phrases) or None, **order.known}
        with staged(folder, f"{source} {repository.commit}") as place:
            content = self._content(choice, repository, place, str(source))
            checksum = choice.files[0].checksum if choice.top is None else ""
            return self._publish(content, folder, name, replace(order, known=known), self._hub.page(source), checksum)

    def _choice(self, source: HubModel, repository: Repository) -> Choice:
        index, components = index_of(repository.files, source.path), None
        if index is not None:
            with TemporaryDirectory() as place:
                read = self._part(index, repository, Path(place) / "index", Report(pause=self._pause)).read_bytes()
            try:
                components = components_of(json.loads(read))
            except ValueError as error:
                raise InstallError(f"{source}: its {index.path} is not JSON.") from error
        return choose(source.repo, repository.files, source.path, source.variant, components)

    def _kind(self, choice: Choice, repository: Repository) -> str | None:
        return choice.kind or ("lora" if repository.is_lora and choice.top is None else None)

    def _name(self, choice: Choice, order: Order) -> str:
        own = safe_name(choice.name)
        if not order.name:
            return own
        return safe_name(order.name) + (split_ending(own)[1] if choice.top is None else "")

    def _content(self, choice: Choice, repository: Repository, place: Path, what: str) -> Path:
        """All files of a choice, complete and checked, in one folder or as one file."""
        total = sum(file.size or 0 for file in choice.files)
        content, done = place / "content", 0
        for number, file in enumerate(choice.files):
            target = choice.place(file, content)
            if not _is_as_listed(file, target):
                fetched = self._part(file, repository, place / f"part-{number}", self._report(what, done, total))
                target.parent.mkdir(parents=True, exist_ok=True)
                target.unlink(missing_ok=True)
                files.move(fetched, target, sync=False)
            done += file.size or 0
        return content

    def _part(self, file: RepoFile, repository: Repository, partial: Path, report: Report) -> Path:
        checksum = Checksum.parse(file.checksum) if file.checksum else None
        wanted = Wanted(self._hub.url(repository, file), file.size, checksum, is_model=has_model_suffix(file.path))
        return Download(self._web, wanted, partial, self._limits, report).run().path

    # -- what all share --------------------------------------------------------------------------------------------

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        """An answer, asked for again while what keeps it away may pass."""
        tries = 0
        while True:
            try:
                return ask()
            except FetchInterrupted as error:
                tries += 1
                if tries > self._limits.retries:
                    raise
                self._pause(error.retry_after or min(LONGEST_PAUSE, 0.5 * 2**tries))

    def _report(self, name: str, before: int = 0, total: int | None = None) -> Report:
        def tell(done: int, of: int | None) -> None:
            self._tell(name, before + done, total if total else of)

        return Report(tell, self._pause)

    def _publish(self, content: Path, folder: Path, name: str, order: Order, url: str, checksum: str) -> Arrival:
        is_told = checksum.startswith(("sha256:", "blake3:"))
        said = {"source_url": url, **order.known, "hash": checksum if is_told else None}
        sidecar = None if order.has_sidecar else dump_toml({key: value for key, value in said.items() if value})
        path, was_there = publish(content, folder, name, sidecar)
        return Arrival(path, was_there)

    def _made(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _is_there(choice: Choice, target: Path) -> bool:
    """Whether all files of a choice are at a place already, as the hub describes them."""
    return target.exists() and all(_is_as_listed(file, choice.place(file, target)) for file in choice.files)


def _is_as_listed(file: RepoFile, path: Path) -> bool:
    """Whether a file is there with the size and the content that the hub names; one without a checksum is not sure."""
    if file.size is None or not file.checksum:
        return False
    expected = Checksum.parse(file.checksum)
    if expected.kind == "sha256":
        return has_digest(path, file.size, expected.digest)
    try:
        same_size = path.is_file() and path.stat().st_size == file.size
        return same_size and not digests_of(path, expected, file.size).mismatch()
    except OSError:
        return False
