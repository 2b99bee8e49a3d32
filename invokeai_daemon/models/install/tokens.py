"""Tokens: which host gets which. Each is sent to its own host, and never where a redirect leads to another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

#: Variables of the environment that hold a token, and the host that it is for; the first that is set counts.
VARIABLES = (
    ("HF_TOKEN", "huggingface.co"),
    ("HUGGING_FACE_HUB_TOKEN", "huggingface.co"),
    ("CIVITAI_TOKEN", "civitai.com"),
    ("CIVITAI_API_TOKEN", "civitai.com"),
    ("CIVITAI_API_KEY", "civitai.com"),
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of the settings and of the environment."""

    #: Host, or host:port, in lower case -> token.
    settings: Mapping[str, str]
    #: The same of the environment; these are not sent unencrypted.
    environment: dict[str, str]

    @classmethod
    def of(cls, settings: Mapping[str, str], environ: Mapping[str, str]) -> Tokens:
        found: dict[str, str] = {}
        for variable, host in VARIABLES:
            if environ.get(variable, "").strip():
                found.setdefault(host, environ[variable].strip())
        return cls({host.lower(): token for host, token in settings.items()}, found)

    def token_for(self, url: str) -> str | None:
        """The token of the host of an address; None when there is none, or when it would go unencrypted."""
        parts = urlsplit(url)
        host, netloc = parts.hostname or "", parts.netloc.rpartition("@")[2].lower()
        token = self.settings.get(netloc) or self.settings.get(host)
        return token or (self.environment.get(host) if parts.scheme == "https" else None)


def advice(url: str) -> str:
    """What to set so that a host that refuses knows who asks: a sentence."""
    host = urlsplit(url).hostname or "the host"
    variable = next((name for name, known in VARIABLES if known == host), None)
    page = f" and accept the model's terms on its page at https://{host}" if host == "huggingface.co" else ""
    environment = f", or {variable} in the environment," if variable else ""
    return f'Put a token into configs/daemon.toml ([install] tokens = {{ "{host}" = "…" }}){environment}{page}.'
