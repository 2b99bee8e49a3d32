"""Hub: what a repository holds, asked of the Hugging Face hub or another one that speaks its language.

huggingface_hub finds the files and their checksums; their bytes come through `download`, so that all that is fetched is
resumed, checked and shown in one way, and no accelerator beside HTTP is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from invokeai_daemon.errors import FetchInterrupted, InstallError
from invokeai_daemon.models.install.choose import RepoFile
from invokeai_daemon.models.install.sources import HubModel
from invokeai_daemon.models.install.tokens import Tokens, advice

PUBLIC = "https://huggingface.co"
_TEMPORARY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Repository:
    """What the hub says of a repository at one commit."""

    repo: str
    commit: str
    files: tuple[RepoFile, ...]
    #: Words that make a LoRA or an embedding do its work.
    trigger_phrases: tuple[str, ...]
    is_lora: bool


class Hub:
    """One hub."""

    def __init__(self, endpoint: str, tokens: Tokens, timeout: float) -> None:
        self.endpoint = (endpoint or PUBLIC).rstrip("/")
        self._tokens, self._timeout = tokens, timeout

    @property
    def host(self) -> str:
        """Host and port, as `Web` names hosts that the settings trust."""
        parts = urlsplit(self.endpoint)
        return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"

    def page(self, source: HubModel) -> str:
        """Where people look at it."""
        where = f"/tree/{source.revision or 'main'}/{source.path}" if source.revision or source.path else ""
        return f"{self.endpoint}/{source.repo}{where.rstrip('/')}"

    def look(self, source: HubModel) -> Repository:
        """What a repository holds. Raises FetchInterrupted for what may pass, InstallError for what will not."""
        from huggingface_hub import HfApi

        self._learn_saved_token()
        with self._told(source):
            # Without a token of its own it must not take the one that huggingface_hub finds: that is of another host.
            token: str | bool = self._tokens.token_for(self.endpoint) or False
            info: Any = HfApi(endpoint=self.endpoint, token=token).model_info(
                source.repo, revision=source.revision, files_metadata=True, timeout=self._timeout
            )
        files = tuple(_file(sibling) for sibling in info.siblings or () if _is_sound(sibling.rfilename))
        card: Any = info.card_data.to_dict() if info.card_data else {}
        tags = set(info.tags or ())
        return Repository(
            source.repo, info.sha or source.revision or "main", files, tuple(_phrases(card)), bool(tags & {"lora"})
        )

    def url(self, repository: Repository, file: RepoFile) -> str:
        """The address of a file, at the commit that was looked at."""
        from huggingface_hub import hf_hub_url

        return hf_hub_url(repository.repo, file.path, revision=repository.commit, endpoint=self.endpoint)

    def _learn_saved_token(self) -> None:
        """The one of `hf auth login` counts as the environment's, for the public hub only."""
        from huggingface_hub import get_token

        if self.endpoint == PUBLIC and (saved := get_token()):
            self._tokens.environment.setdefault("huggingface.co", saved)

    @contextmanager
    def _told(self, source: HubModel) -> Iterator[None]:
        """Errors of huggingface_hub in our words."""
        from huggingface_hub import errors

        try:
            yield
        except errors.GatedRepoError as error:
            raise InstallError(f"{source}: its owner lets only some people have it. {advice(self.endpoint)}") from error
        except errors.RepositoryNotFoundError as error:
            raise InstallError(
                f"{source}: {self.endpoint} has no such repository, or only for some. {advice(self.endpoint)}"
            ) from error
        except errors.RevisionNotFoundError as error:
            raise InstallError(f"{source}: the repository has no {source.revision}.") from error
        except errors.HFValidationError as error:
            raise InstallError(f"{source}: {error}") from error
        except errors.OfflineModeIsEnabled as error:
            raise InstallError(f"{source}: HF_HUB_OFFLINE is set, so the hub is not asked.") from error
        except errors.HfHubHTTPError as error:
            raise self._http_error(source, error) from error
        except Exception as error:
            # Its HTTP library changes with its versions; what that raises is known by the module.
            if not type(error).__module__.partition(".")[0].startswith(("http", "socket", "ssl")):
                raise
            raise FetchInterrupted(
                f"{source}: {self.endpoint} cannot be reached ({str(error) or type(error).__name__}). "
                "Is this machine online?"
            ) from error

    def _http_error(self, source: HubModel, error: Any) -> InstallError:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            return InstallError(f"{source}: {self.endpoint} wants to know who asks ({status}). {advice(self.endpoint)}")
        if status in _TEMPORARY:
            return FetchInterrupted(f"{source}: {self.endpoint} cannot answer now ({status}).")
        return InstallError(f"{source}: {self.endpoint} answered with the code {status}.")


def _file(sibling: Any) -> RepoFile:
    lfs = sibling.lfs
    if lfs is not None:
        return RepoFile(sibling.rfilename, lfs.size, f"sha256:{lfs.sha256}")
    checksum = f"git-sha1:{sibling.blob_id}" if sibling.blob_id and sibling.size is not None else ""
    return RepoFile(sibling.rfilename, sibling.size, checksum)


def _is_sound(path: str) -> bool:
    """Whether a name can be a path below a folder."""
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and not any(part in ("", ".", "..") for part in parts)


def _phrases(card: Any) -> Iterator[str]:
    """What a model card names as the prompt of its training."""
    phrase = card.get("instance_prompt") if isinstance(card, dict) else None
    for text in phrase if isinstance(phrase, list) else [phrase]:
        if isinstance(text, str) and 0 < len(text.strip()) <= 1000 and text.isprintable():
            yield re.sub(r"\s+", " ", text.strip())
