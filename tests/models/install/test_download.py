"""A file arrives whole, checked and once, whatever the server does; what cannot be is said in one sentence."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from invokeai_daemon.errors import DiskFull, FetchInterrupted, InstallError
from invokeai_daemon.models.install import download
from invokeai_daemon.models.install.checks import Checksum
from invokeai_daemon.models.install.fetch import Arrival, Order
from invokeai_daemon.models.install.sources import WebFile
from invokeai_daemon.models.install.staging import discard_forgotten
from invokeai_daemon.models.sidecar import read_sidecar
from invokeai_daemon.root import Root
from tests.models.install.conftest import MakeFetcher
from tests.models.install.servers import FileServer, Page, weights

CAT = weights(50_000)


def order(server: FileServer, path: str = "/cat.safetensors", **more: object) -> Order:
    return Order(WebFile(server.url + path), **more)  # type: ignore[arg-type]


def files_below(root: Root) -> list[str]:
    """All that lies in autoimport/, hidden things too."""
    return sorted(str(path.relative_to(root.autoimport)) for path in root.autoimport.rglob("*") if path.is_file())


def test_a_file_arrives_with_a_sidecar_that_says_where_from(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    told: list[tuple[int, int | None]] = []
    fetch = fetcher(tell=lambda name, done, total: told.append((done, total)))
    (arrival,) = fetch.fetch(order(server))
    assert arrival == Arrival(root.autoimport / "installed" / "cat.safetensors", False)
    assert arrival.path.read_bytes() == CAT
    sidecar = read_sidecar(arrival.path)
    assert sidecar.source_url == f"{server.url}/cat.safetensors"
    assert sidecar.hash == f"sha256:{hashlib.sha256(CAT).hexdigest()}"
    assert told[-1] == (len(CAT), len(CAT))
    assert files_below(root) == ["installed/cat.safetensors", "installed/cat.toml"]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[10_000, 5_000])
    (arrival,) = fetcher().fetch(order(server))
    assert arrival.path.read_bytes() == CAT
    asked = server.asked_for("/cat.safetensors")
    assert [one.headers.get("range") for one in asked] == [None, "bytes=10000-", "bytes=15000-"]
    assert [one.headers.get("if-range") for one in asked] == [None, '"1"', '"1"']


def test_progress_buys_new_tries_and_its_lack_does_not(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[2_000] * 12)
    assert fetcher(retries=2).fetch(order(server))[0].path.read_bytes() == CAT
    server.pages["/dog.safetensors"] = Page(CAT, breaks=[2_000] * 12, ranges=False)
    with pytest.raises(FetchInterrupted, match=r"2,000 of 50,0\d\d bytes|broke off"):
        fetcher(retries=2).fetch(order(server, "/dog.safetensors"))
    assert len(server.asked_for("/dog.safetensors")) == 3


def test_another_process_goes_on_with_what_is_there(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    with pytest.raises(FetchInterrupted):
        fetcher(retries=0).fetch(order(server))
    assert not [name for name in files_below(root) if ".downloads" not in name]
    (arrival,) = fetcher().fetch(order(server))
    assert arrival.path.read_bytes() == CAT
    assert server.asked[-1].headers["range"] == "bytes=30000-"


def test_a_file_that_changed_meanwhile_comes_anew(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    with pytest.raises(FetchInterrupted):
        fetcher(retries=0).fetch(order(server))
    new = weights(50_000, fill=9)
    server.pages["/cat.safetensors"] = Page(new, etag='"2"')
    assert fetcher(retries=0).fetch(order(server))[0].path.read_bytes() == new


def test_halves_are_not_joined_on_a_weak_promise(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000], etag='W/"1"')
    assert fetcher(retries=1).fetch(order(server))[0].path.read_bytes() == CAT
    assert [one.headers.get("range") for one in server.asked] == [None, None]


def test_halves_that_do_not_fit_are_fetched_anew(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    """A server whose ETag says nothing about the content."""
    new = weights(50_000, fill=9)
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    wanted = order(server, checksum=Checksum("sha256", hashlib.sha256(new).hexdigest()))
    with pytest.raises(FetchInterrupted):
        fetcher(retries=0).fetch(wanted)
    server.pages["/cat.safetensors"] = Page(new)
    assert fetcher(retries=1).fetch(wanted)[0].path.read_bytes() == new


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_is_busy_is_asked_again(
    root: Root, server: FileServer, fetcher: MakeFetcher, status: int
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, statuses=[status, status])
    assert fetcher(retries=2).fetch(order(server))[0].path.read_bytes() == CAT
    server.pages["/cat.safetensors"] = Page(CAT, statuses=[status] * 9, etag='"2"')
    with pytest.raises(FetchInterrupted, match=f"cannot answer now \\({status}\\)"):
        fetcher(retries=1).fetch(order(server))


def test_a_server_says_how_long_to_wait(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, {"Retry-After": "7"}, statuses=[503])
    waited: list[float] = []
    fetch = fetcher()
    fetch._pause = waited.append
    fetch.fetch(order(server))
    assert waited == [7.0]


@pytest.mark.parametrize("kind", ["sha256", "blake3"])
def test_what_is_not_what_it_should_be_never_appears(
    root: Root, server: FileServer, fetcher: MakeFetcher, kind: str
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    digest = hashlib.sha256(CAT).hexdigest() if kind == "sha256" else blake3(CAT).hexdigest()
    with pytest.raises(InstallError, match=f"is not what it should be: its {kind} is {digest}"):
        fetcher().fetch(order(server, checksum=Checksum(kind, "0" * 64)))
    assert files_below(root) == []
    assert fetcher().fetch(order(server, checksum=Checksum(kind, digest)))[0].path.read_bytes() == CAT


def test_fewer_bytes_than_promised_never_appear(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[49_000] * 9, ranges=False)
    with pytest.raises(FetchInterrupted):
        fetcher(retries=1).fetch(order(server))
    assert not list(root.autoimport.rglob("cat*"))


def test_a_file_that_is_cut_off_on_the_server_never_appears(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT[:-1])
    with pytest.raises(InstallError, match="is not complete"):
        fetcher().fetch(order(server))
    assert files_below(root) == []


def test_without_a_length_the_format_proves_that_all_came(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, no_length=True, breaks=[40_000])
    with pytest.raises(FetchInterrupted, match="is not complete"):
        fetcher().fetch(order(server))
    assert fetcher().fetch(order(server))[0].path.read_bytes() == CAT


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (Page(b"<!DOCTYPE html><title>Log in</title>", {"Content-Type": "text/html"}), 'a web page \\("Log in"\\)'),
        (Page(b'{"error":"no"}', {"Content-Type": "application/json"}), "a message, not a model file"),
        (Page(CAT, {"Content-Encoding": "gzip"}), "sends it compressed"),
        (Page(statuses=[403]), r'refuses it \(403\).*\[install\] tokens = \{ "127.0.0.1" = "…" \}'),
        (Page(statuses=[404]), r"has no such file \(404\)"),
        (Page(statuses=[418]), "answered with the code 418"),
        (Page(redirect="file:///etc/passwd"), "leads to an address that is not fetched"),
        (Page(redirect="//[x"), "leads to an address that is not fetched"),
        (Page(redirect="/cat.safetensors"), "from one address to another without end"),
    ],
)
def test_what_is_no_model_never_appears(
    root: Root, server: FileServer, fetcher: MakeFetcher, page: Page, why: str
) -> None:
    server.pages["/cat.safetensors"] = page
    with pytest.raises(InstallError, match=why) as caught:
        fetcher().fetch(order(server))
    assert not isinstance(caught.value, FetchInterrupted)
    assert files_below(root) == []


def test_a_file_that_is_too_large_is_not_begun(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    with pytest.raises(InstallError, match=r"has 50\.1 kB, more than \[install\] max_gb allows \(10\.0 kB\)"):
        fetcher(max_gb=0.00001).fetch(order(server))
    assert files_below(root) == []


def test_a_disk_without_room_is_told_before_anything_is_written(
    root: Root, server: FileServer, fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    usage = download.shutil.disk_usage(root.path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=40_000))
    with pytest.raises(DiskFull, match=r"needs 50\.1 kB .* which has 40\.0 kB free"):
        fetcher().fetch(order(server))
    assert not list(root.autoimport.rglob("content"))


def test_a_server_that_falls_silent_is_left(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, slow=0.6)
    with pytest.raises(FetchInterrupted, match="fell silent"):
        fetcher(timeout_seconds=0.2, retries=0).fetch(order(server))


def test_a_server_that_trickles_is_left(
    root: Root, server: FileServer, fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LEAST_SPEED", 10_000_000)
    server.pages["/cat.safetensors"] = Page(CAT, slow=0.05)
    with pytest.raises(FetchInterrupted, match="bytes a second only"):
        fetcher(timeout_seconds=0.2, retries=0).fetch(order(server))


def test_no_network_is_one_clear_sentence(root: Root, fetcher: MakeFetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(FetchInterrupted, match=r"127\.0\.0\.1: no connection: Connection refused\."):
        fetcher(retries=0).fetch(Order(WebFile(f"http://127.0.0.1:{port}/cat.ckpt")))
    with pytest.raises(FetchInterrupted, match=r"no\.such\.host\.invalid: no address is known for this name"):
        fetcher(retries=0).fetch(Order(WebFile("http://no.such.host.invalid/cat.ckpt")))


# -- names -------------------------------------------------------------------------------------------------------------


def test_the_name_is_the_servers_and_stays_in_its_folder(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    header = {"Content-Disposition": 'attachment; filename="../../.cat\x01 one.safetensors"'}
    server.pages["/api/83390"] = Page(CAT, header)
    (arrival,) = fetcher().fetch(order(server, "/api/83390"))
    assert arrival.path == root.autoimport / "installed" / "cat one.safetensors"


def test_a_file_without_an_ending_gets_that_of_its_format(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/api/83390"] = Page(CAT)
    assert fetcher().fetch(order(server, "/api/83390"))[0].path.name == "83390.safetensors"
    server.pages["/api/notes"] = Page(b"just some words, served as a file")
    with pytest.raises(InstallError, match="neither its name \\(notes\\) nor its bytes are a model's"):
        fetcher().fetch(order(server, "/api/notes"))


def test_other_content_under_the_same_name_gets_a_number(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    folder = root.autoimport / "lora"
    (folder / "cat.safetensors").write_bytes(b"mine")
    (folder / "cat-2.toml").write_text('name = "mine too"\n')
    server.pages["/cat.safetensors"] = Page(CAT)
    (arrival,) = fetcher().fetch(order(server, folder=folder))
    assert arrival.path == folder / "cat-3.safetensors"
    assert (folder / "cat.safetensors").read_bytes() == b"mine"
    assert (folder / "cat-2.toml").read_text() == 'name = "mine too"\n'


def test_the_same_content_is_there_already(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    folder = root.autoimport / "lora"
    (folder / "cat.safetensors").write_bytes(CAT)
    server.pages["/cat.safetensors"] = Page(CAT)
    assert fetcher().fetch(order(server, folder=folder)) == [Arrival(folder / "cat.safetensors", True)]
    assert files_below(root) == ["lora/cat.safetensors"]


def test_what_was_fetched_is_not_fetched_again(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    (first,) = fetcher().fetch(order(server))
    server.pages["/cat.safetensors"].breaks = [0]
    assert fetcher(retries=0).fetch(order(server)) == [Arrival(first.path, True)]
    first.path.unlink()
    server.pages["/cat.safetensors"].breaks = []
    (again,) = fetcher().fetch(order(server))
    assert (again.was_there, again.path.read_bytes()) == (False, CAT)


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_a_token_is_sent_to_its_host_and_a_refusal_says_what_to_set(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, authorization="Bearer secret")
    with pytest.raises(InstallError, match=r"wants to know who asks.*\[install\] tokens"):
        fetcher().fetch(order(server))
    assert fetcher(tokens={"127.0.0.1": "secret"}).fetch(order(server))[0].path.read_bytes() == CAT


def test_a_token_does_not_follow_a_redirect_to_another_host(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/start"] = Page(redirect=f"http://localhost:{server.port}/cat.safetensors", authorization="Bearer x")
    server.pages["/cat.safetensors"] = Page(CAT)
    fetcher(tokens={"127.0.0.1": "x"}).fetch(order(server, "/start"))
    assert "authorization" not in server.asked_for("/cat.safetensors")[0].headers
    fetcher(tokens={"127.0.0.1": "x", "localhost": "y"}).fetch(order(server, "/start"))
    assert server.asked_for("/cat.safetensors")[1].headers["authorization"] == "Bearer y"


def test_a_password_in_an_address_stays_with_its_host_and_out_of_the_sidecar(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/start"] = Page(redirect=f"http://localhost:{server.port}/cat.safetensors")
    server.pages["/cat.safetensors"] = Page(CAT)
    url = f"http://me:s%40cret@127.0.0.1:{server.port}/start?token=hidden&v=1"
    (arrival,) = fetcher().fetch(Order(WebFile(url)))
    assert server.asked_for("/start")[0].headers["authorization"] == "Basic bWU6c0BjcmV0"
    assert "authorization" not in server.asked_for("/cat.safetensors")[0].headers
    assert read_sidecar(arrival.path).source_url == f"{server.url}/start?v=1"


def test_secrets_are_written_nowhere(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[10])
    url = f"http://me:passw0rd@127.0.0.1:{server.port}/cat.safetensors?token=hidden"
    fetch = fetcher(tokens={"localhost": "t0ken"})
    fetch.fetch(Order(WebFile(url)))
    written = b"".join(path.read_bytes() for path in root.path.rglob("*") if path.is_file())
    for secret in (b"passw0rd", b"hidden", b"t0ken"):
        assert secret not in written


# -- addresses that are not asked --------------------------------------------------------------------------------------


def test_private_addresses_are_not_asked_without_the_setting(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    for host in ("127.0.0.1", "localhost", "0x7f000001"):
        with pytest.raises(InstallError, match=r"is an address of this machine or its network.*allow_private = true"):
            fetcher(allow_private=False).fetch(Order(WebFile(f"http://{host}:{server.port}/cat.safetensors")))
    assert server.asked == []


def test_a_redirect_to_the_credentials_of_a_cloud_is_not_followed(
    root: Root, server: FileServer, fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to the address of a local server, which claims to be the link-local one."""
    server.pages["/start"] = Page(redirect=f"http://localhost:{server.port}/latest/meta-data")
    real = socket.socket.getpeername

    def lying(self: socket.socket) -> object:
        return ("169.254.169.254", 80) if len(server.asked) == 1 else real(self)

    monkeypatch.setattr(socket.socket, "getpeername", lying)
    with pytest.raises(InstallError, match=r"localhost: 169\.254\.169\.254 is an address that is never asked"):
        fetcher().fetch(order(server, "/start"))
    assert [one.path for one in server.asked] == ["/start"]


def test_a_proxy_of_the_environment_is_used_and_private_names_are_refused_before(
    root: Root, server: FileServer, fetcher: MakeFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    fetcher(allow_private=False).fetch(Order(WebFile("http://no.such.host.invalid/cat.safetensors")))
    assert server.asked[0].headers["host"] == "no.such.host.invalid"
    with pytest.raises(InstallError, match="is an address of this machine"):
        fetcher(allow_private=False).fetch(Order(WebFile("http://127.0.0.1:1/cat.safetensors")))


# -- one at a time -----------------------------------------------------------------------------------------------------


def test_two_processes_do_not_fetch_the_same_into_one_file(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, slow=0.01)
    first = threading.Thread(target=lambda: fetcher().fetch(order(server)))
    first.start()
    while not server.asked:
        pass
    with pytest.raises(FetchInterrupted, match="is being fetched by another process already"):
        fetcher().fetch(order(server))
    first.join()
    assert files_below(root) == ["installed/cat.safetensors", "installed/cat.toml"]


def test_unfinished_downloads_that_nobody_wants_any_more_are_removed(
    root: Root, server: FileServer, fetcher: MakeFetcher
) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    with pytest.raises(FetchInterrupted):
        fetcher(retries=0).fetch(order(server))
    folder = root.autoimport / "installed"
    discard_forgotten(folder)
    (partial,) = folder.rglob("content")
    discard_forgotten(folder, now=partial.stat().st_mtime + 15 * 86400)
    assert files_below(root) == []


def test_a_note_that_is_broken_means_a_fresh_start(root: Root, server: FileServer, fetcher: MakeFetcher) -> None:
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    with pytest.raises(FetchInterrupted):
        fetcher(retries=0).fetch(order(server))
    note = next(Path(root.autoimport).rglob("content.json"))
    assert json.loads(note.read_text())["total"] == len(CAT)
    note.write_text("{")
    assert fetcher().fetch(order(server))[0].path.read_bytes() == CAT
    assert "range" not in server.asked[-1].headers


def test_the_server_of_these_tests_breaks_off_as_told(server: FileServer) -> None:
    """The tests above rely on it."""
    server.pages["/cat.safetensors"] = Page(CAT, breaks=[30_000])
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/cat.safetensors")
    response = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        response.read()
    assert len(caught.value.partial) == 30_000
    connection.close()
