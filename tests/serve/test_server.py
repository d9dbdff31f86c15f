"""The server: masks that NumPy gives, limits that hold, and one line for whatever is wrong."""

import asyncio
import base64
import io
import threading
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image
from support import hostile
from support.asgi import ask, form, get, post

from unet_jax.data.sample import RGB
from unet_jax.errors import UserError

pytest.importorskip("python_multipart", reason="the extra `serve` is not installed")

from unet_jax.serve.app import make_app
from unet_jax.serve.limits import Limits, parse_limits
from unet_jax.serve.uploads import safe_name

NAMES = ("red", "green", "blue")


class Brightest:
    """Is a model: the class of a pixel is its largest channel; may wait until it is let go."""

    class_names, spec = NAMES, RGB

    def __init__(self, *, waits=False):
        self.let_go, self.calls, self.started = threading.Event(), 0, threading.Event()
        if not waits:
            self.let_go.set()

    def predict(self, image):
        self.calls += 1
        self.started.set()
        assert self.let_go.wait(60)
        return image.argmax(axis=-1).astype(np.uint8)


class Overlapping(Brightest):
    def predict(self, image):
        return (image > 127).astype(np.uint8)


def make(model=None, **limits):
    about = {"title": "colours", "version": "1"}
    hosts = ("127.0.0.1", "localhost")
    return make_app(model or Brightest(), Limits(**limits), "<p>page", **about, hosts=hosts)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image, kind="PNG", **how):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (64, 33)])
def test_a_mask_holds_the_classes_of_the_images_own_pixels(size):
    image = noise(*size, 3, seed=sum(size))
    answer = post(make(), encode(image))
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    mask = Image.open(io.BytesIO(answer.body))
    assert mask.mode == "P"
    np.testing.assert_array_equal(np.asarray(mask), image.argmax(-1))


def test_images_are_turned_as_viewers_show_them_and_read_by_their_content():
    image, exif = noise(8, 16, 3), Image.Exif()
    exif[274] = 6
    answer = post(make(), encode(image, exif=exif))
    expected = np.rot90(image, -1).argmax(-1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.body))), expected)
    stored = io.BytesIO()
    np.save(stored, image)
    for data in (encode(image, "TIFF"), encode(image, "BMP"), stored.getvalue()):
        answer = post(make(), data, {"content-type": "image/png"})
        mask = np.asarray(Image.open(io.BytesIO(answer.body)))
        np.testing.assert_array_equal(mask, image.argmax(-1))


def test_bare_ids_say_their_shape():
    image = noise(5, 9, 3)
    answer = post(make(), encode(image), {"accept": "application/octet-stream"})
    assert answer.headers["x-shape"] == "5,9"
    assert answer.body == image.argmax(-1).astype(np.uint8).tobytes()


def test_many_images_come_as_a_zip_whose_names_lead_nowhere():
    names = ["../../a.png", "a.jpg", "C:\\b\\A.png", "...", "é ü.tif"]
    images = [noise(4, 5 + i, 3, seed=i) for i in range(5)]
    headers, body = form([(n, encode(x)) for n, x in zip(names, images, strict=True)])
    answer = post(make(), body, headers)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        found = archive.namelist()
        assert found == ["a.png", "a_2.png", "A_3.png", "image.png", "é_ü.png"]
        for name, image in zip(found, images, strict=True):
            mask = np.asarray(Image.open(archive.open(name)))
            np.testing.assert_array_equal(mask, image.argmax(-1))


def test_json_has_counts_and_masks():
    images = [noise(3, 4, 3), noise(6, 2, 3, seed=1), np.full((2, 2, 3), 9, np.uint8)]
    headers, body = form([(f"{i}.png", encode(x)) for i, x in enumerate(images)])
    told = post(make(), body, headers | {"accept": "application/json"}).json()
    assert told["classes"] == list(NAMES)
    for image, one in zip(images, told["images"], strict=True):
        ids = image.argmax(-1)
        assert (one["height"], one["width"]) == ids.shape
        assert one["pixels"] == {name: int((ids == k).sum()) for k, name in enumerate(NAMES)}
        [mask] = one["masks"]
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(base64.b64decode(mask)))), ids
        )


def test_what_a_model_warns_of_is_told_to_who_sent_the_image():
    class Wary(Brightest):
        def predict(self, image):
            warnings.warn("smaller than é", stacklevel=1)
            return super().predict(image)

    app, data = make(Wary()), encode(noise(3, 3, 3))
    assert post(app, data).headers["x-note"] == "smaller than ?"
    told = post(app, data, {"accept": "application/json"}).json()
    assert told["notes"] == ["smaller than é"]


def test_classes_that_overlap_have_a_mask_each():
    image = noise(4, 6, 3)
    answer = post(make(Overlapping()), encode(image))
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == [f"image_{name}.png" for name in NAMES]
        for k, name in enumerate(archive.namelist()):
            mask = np.asarray(Image.open(archive.open(name)))
            np.testing.assert_array_equal(mask, image[..., k] > 127)
    told = post(make(Overlapping()), encode(image), {"accept": "application/json"}).json()
    counts = [int((image[..., k] > 127).sum()) for k in range(3)]
    assert list(told["images"][0]["pixels"].values()) == counts


@pytest.mark.parametrize(
    ("image", "limits", "status", "says"),
    [
        (noise(10, 10, 3), {"pixels": 99}, 400, "image has 10x10 pixels; 99 are the most here."),
        (noise(10, 10, 3), {"bytes": 50}, 413, "the body has more than 50 bytes"),
        (noise(10, 10).astype(np.uint16), {}, 400, "image has 2 axes, 1 channels of uint16, and"),
    ],
)
def test_what_is_above_a_limit_or_of_another_kind_is_one_line(image, limits, status, says):
    answer = post(make(**limits), encode(image))
    assert answer.status == status
    assert answer.json()["error"].startswith(says)


def test_a_body_is_refused_by_its_length_before_it_is_read():
    async def endless():
        headers = {"content-length": str(10**9)}
        return await ask(make(), "POST", "/predict", [], headers)  # nothing ever comes

    assert asyncio.run(asyncio.wait_for(endless(), 20)).status == 413


def test_a_request_that_is_sent_away_is_read_to_its_end_first():
    model = Brightest(waits=True)
    app, data = make(model, queue=0), encode(noise(8, 8, 3))
    parts = [b"x" * 100] * 50

    async def crowd():
        first = asyncio.create_task(ask(app, "POST", "/predict", [data]))
        await asyncio.to_thread(model.started.wait, 60)
        second = await ask(app, "POST", "/predict", parts)
        model.let_go.set()
        return second, await first

    second, first = asyncio.run(crowd())
    assert (second.status, first.status) == (503, 200)
    assert not parts


def test_a_body_without_a_length_is_cut_off_at_the_limit():
    parts = [b"x" * 100] * 1000
    left = asyncio.run(ask(make(bytes=1000), "POST", "/predict", parts))
    assert left.status == 413


def test_too_many_images_are_refused():
    headers, body = form([("a.png", encode(noise(2, 2, 3)))] * 3)
    answer = post(make(images=2), body, headers)
    assert answer.status == 413
    assert "Maximum number of files is 2" in answer.json()["error"]


def test_requests_beyond_the_queue_are_sent_away_at_once_and_none_is_lost():
    model = Brightest(waits=True)
    app, data = make(model, queue=5), encode(noise(8, 8, 3))

    async def crowd():
        tasks = [asyncio.create_task(ask(app, "POST", "/predict", [data])) for _ in range(200)]
        while sum(task.done() for task in tasks) < 194:
            await asyncio.sleep(0.001)
        health = await ask(app, "GET", "/healthz", [b""])  # it answers while the worker is busy
        assert health.json() == {"status": "ok", "waiting": 5, "queue": 5}
        model.let_go.set()
        answers = await asyncio.gather(*tasks)
        again = await ask(app, "POST", "/predict", [data])
        return answers, again, await ask(app, "GET", "/metrics", [b""])

    answers, again, metrics = asyncio.run(asyncio.wait_for(crowd(), 60))
    codes = [answer.status for answer in answers]
    assert (codes.count(200), codes.count(503)) == (6, 194)
    full = next(answer for answer in answers if answer.status == 503)
    assert full.headers["retry-after"] == "5"
    assert full.json()["error"] == "5 requests wait already; come again in 5 s."
    assert (again.status, model.calls) == (200, 7)
    lines = metrics.body.decode().splitlines()
    assert {
        'unet_jax_requests_total{code="200"} 7',
        'unet_jax_requests_total{code="503"} 194',
        "unet_jax_images_total 7",
        f"unet_jax_pixels_total {7 * 64}",
        "unet_jax_requests_in_progress 0",
        "unet_jax_queue_length 5",
    } <= set(lines)


def test_a_request_that_is_given_up_keeps_its_place_until_the_worker_is_done_with_it():
    model = Brightest(waits=True)
    app, data = make(model, queue=0, seconds=1), encode(noise(8, 8, 3))
    headers, many = form([("a.png", data)] * 3)

    async def give_up():
        late = await ask(app, "POST", "/predict", [many], headers)
        full = await ask(app, "POST", "/predict", [data])
        model.let_go.set()
        while b"in_progress 0" not in (await ask(app, "GET", "/metrics", [b""])).body:
            await asyncio.sleep(0.01)
        return late, full, await ask(app, "POST", "/predict", [data])

    late, full, after = asyncio.run(asyncio.wait_for(give_up(), 60))
    assert late.status == 504
    assert late.json()["error"].startswith("not done in 1 s")
    assert (full.status, after.status) == (503, 200)
    assert model.calls == 2, "of the images that nobody waits for, no other is predicted"


def test_a_request_that_comes_too_slowly_is_given_up():
    parts = [b"x"] * 1000
    answer = asyncio.run(ask(make(seconds=1), "POST", "/predict", parts, pause=0.2))
    assert (answer.status, answer.json()["error"]) == (408, "the request was not read in 1 s.")


def test_what_nobody_foresaw_is_one_line_too(caplog):
    class Broken(Brightest):
        def predict(self, image):
            raise KeyError("secret")

    answer = post(make(Broken()), encode(noise(2, 2, 3)))
    assert answer.status == 500
    assert answer.json() == {"error": "the images could not be predicted (KeyError)."}
    assert "secret" in caplog.text  # for whoever runs it
    caplog.clear()


def test_other_routes_and_names_are_refused_in_one_line():
    app = make()
    assert get(app, "/other").json() == {"error": "Not Found"}
    assert get(app, "/predict").status == 405
    assert get(app, "/", {"host": "evil.example"}).status == 400
    assert get(app, "/", {"host": "localhost:8000"}).body == b"<p>page"


def test_openapi_names_each_route_with_its_methods_and_the_classes():
    app = make()
    told = get(app, "/openapi.json").json()
    routes = {route.path: route.methods - {"HEAD"} for route in app.routes}
    assert {path: {m.upper() for m in item} for path, item in told["paths"].items()} == routes
    predict = told["paths"]["/predict"]["post"]
    assert "0 red, 1 green, 2 blue" in predict["description"]
    assert set(predict["responses"]) == {"200", "400", "408", "413", "503", "504"}


def test_limits_are_read_from_a_text():
    assert parse_limits("") == Limits()
    assert parse_limits("queue=0, pixels=12") == Limits(queue=0, pixels=12)
    for text in ("pixels", "pixels=0", "pixels=-1", "pixels=1e6", "other=1", "bytes=" + "9" * 99):
        with pytest.raises(UserError, match="allowed are bytes=N, pixels=N, images=N, seconds=N"):
            parse_limits(text)


def test_names_of_files_lead_nowhere():
    assert safe_name("../../etc/passwd") == "passwd"
    assert safe_name("a\0b\r\n.png") == "a_b__.png"
    assert safe_name("..") == safe_name("") == safe_name("a/") == "image"
    assert len(safe_name("x" * 10**5)) == 100


def test_200_hostile_files_get_one_line_each_and_take_no_memory(caplog):
    model = Brightest()
    app, found = make(model), hostile.files()
    assert len(found) == 200
    tracemalloc.start()
    try:
        for name, data in found:
            headers, body = form([(name, data)])
            answer = post(app, body, headers)
            assert answer.status == 400, (name, answer)
            line = answer.json()["error"]
            assert line.isprintable(), (name, line)
            assert len(line) < 1000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200 * 2**20
    assert not model.calls
    assert not caplog.records  # no traceback was logged either
    assert post(app, encode(noise(3, 4, 3))).status == 200
