"""What is served: a run, on a real socket; and what is refused before a run is loaded."""

import io
import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from support.asgi import post
from support.predicting import make_run

import unet_jax
from unet_jax.data.sample import RGB, make_spec
from unet_jax.errors import UserError

pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")

import uvicorn

from unet_jax.serve import run as serving
from unet_jax.serve.app import make_app
from unet_jax.serve.limits import Limits


def encode(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_run_answers_as_it_predicts(tmp_path_factory):
    loaded = unet_jax.load(make_run(tmp_path_factory.getbasetemp() / "predicting"), "latest")
    image = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
    answer = post(make_app(loaded, Limits(), "", title="a", version="1"), encode(image))
    mask = np.asarray(Image.open(io.BytesIO(answer.body)))
    np.testing.assert_array_equal(mask, loaded.predict(image))


@pytest.fixture
def served(monkeypatch):
    """Returns a function that serves a model on a free port of this computer; gives its address."""
    servers, threads = [], []

    class Kept(uvicorn.Server):
        def __init__(self, *given):
            super().__init__(*given)
            servers.append(self)

    monkeypatch.setattr(uvicorn, "Server", Kept)

    def serve(spec, *, by_class=False):
        model = SimpleNamespace(
            spec=spec,
            class_names=("a", "b", "c"),
            step=1234,
            workdir=Path("runs/x"),
            predict=lambda image: image.argmax(-1).astype(np.uint8),
        )
        listening = serving.listen("127.0.0.1", 0)
        given = {"target": serving.serve, "args": (model, listening, Limits())}
        threads.append(threading.Thread(**given, kwargs={"by_class": by_class}))
        threads[-1].start()
        while not (servers and servers[-1].started):
            time.sleep(0.01)
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield serve
    for server in servers:
        server.should_exit = True
    for thread in threads:
        thread.join()


def test_a_socket_of_this_computer_serves_page_masks_and_errors(served, capsys):
    place = served(RGB)
    told = capsys.readouterr().out
    assert f"serving x, step 1,234 at {place}/" in told
    assert "limits: bytes 33,554,432, pixels 16,777,216, images 16, seconds 120, queue 16" in told
    assert "no passwords" not in told
    with urllib.request.urlopen(place) as answer:
        page = answer.read().decode()
        assert "server" not in {name.lower() for name in answer.headers}
    assert "connect-src &#x27;self&#x27;" in page
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    with urllib.request.urlopen(f"{place}/predict", encode(image)) as answer:
        mask = np.asarray(Image.open(io.BytesIO(answer.read())))
    np.testing.assert_array_equal(mask, image.argmax(-1))
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{place}/predict", b"no image")
    with caught.value as error:
        assert error.code == 400
        assert json.load(error)["error"].startswith("image cannot be read as an image")


@pytest.mark.parametrize(
    ("spec", "by_class", "says"),
    [
        (make_spec(2, 5, "uint16"), False, "reads images with 2 axes, 5 channels of uint16"),
        (RGB, True, "has classes that overlap"),
    ],
)
def test_where_a_page_cannot_show_it_it_says_so(spec, by_class, says):
    run = SimpleNamespace(spec=spec)
    assert says in serving._page(run, "a", Limits(), by_class=by_class)


def test_what_cannot_be_served_is_refused_before_a_run_is_loaded(monkeypatch, tmp_path):
    with serving.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        given = {"checkpoint": "best", "host": "127.0.0.1", "limits": ""}
        with pytest.raises(UserError, match=rf"--port={port} cannot be listened on \(Address alr"):
            serving.serve_run(None, tmp_path, port=port, **given)
        with pytest.raises(UserError, match="--limits=queue=x: 'queue=x' is none"):
            serving.serve_run(None, tmp_path, port=port, **given | {"limits": "queue=x"})
        for host in ("256.0.0.1", "a b", "x" * 300, ""):
            with pytest.raises(UserError, match="cannot be listened on"):
                serving.serve_run(None, tmp_path, port=0, **given | {"host": host})
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: name == "starlette")
    with pytest.raises(UserError, match=r"needs python-multipart, uvicorn; .*'unet-jax\[serve\]'"):
        serving.serve_run(None, tmp_path, port=0, **given)
