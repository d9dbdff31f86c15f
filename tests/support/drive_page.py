"""Opens a page in Chromium, drops images on it, and prints what it shows; needs PyQt6-WebEngine.

python drive_page.py URL WIDTH HEIGHT SCREENSHOT.png IMAGE...; prints a line of JSON for every
image, and at the end one with all requests and messages.
"""

import base64
import json
import os
import sys
from pathlib import Path

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import QWebEnginePage, QWebEngineProfile, QWebEngineUrlRequestInterceptor
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

FLAGS = "--no-sandbox --disable-gpu --single-process"
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", FLAGS)
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

DROP = """
globalThis.told = null;
(async () => {
  const bytes = Uint8Array.from(atob("%s"), (x) => x.charCodeAt(0));
  globalThis.shown = null;
  shown = null;
  await take([new File([bytes], "%s")]);
  let mask = null;
  if (shown) {
    const colours = facts.classes.map((c) => c.colour);
    const blob = await writeMask(shown.label, shown.width, shown.height, colours);
    mask = btoa(String.fromCharCode(...new Uint8Array(await blob.arrayBuffer())));
  }
  const rows = [...at("classes").tBodies[0].rows];
  told = JSON.stringify({
    mask,
    status: at("status").textContent,
    isError: at("status").className === "error",
    label: at("stage").getAttribute("aria-label"),
    cells: rows.map((row) => [...row.cells].map((c) => c.textContent)),
  });
})();
"""


class Requests(QWebEngineUrlRequestInterceptor):
    """Notes what the page asks for."""

    def __init__(self):
        super().__init__()
        self.urls = []

    def interceptRequest(self, info):
        self.urls.append(info.requestUrl().toString()[:200])


class Page(QWebEnginePage):
    """Notes what scripts say."""

    def javaScriptConsoleMessage(self, level, message, line, source):
        messages.append(message)


def poll(script, then):
    """Asks until a script gives something."""

    def look(value):
        if value:
            then(value)
        else:
            QTimer.singleShot(50, lambda: view.page().runJavaScript(script, look))

    view.page().runJavaScript(script, look)


def drop(images):
    if not images:
        QTimer.singleShot(500, finish)
        return
    file, *rest = images
    data = base64.b64encode(Path(file).read_bytes()).decode()

    def told(text):
        print(text, flush=True)
        drop(rest)

    view.page().runJavaScript(DROP % (data, Path(file).name))
    poll("globalThis.told", told)


def finish():
    def grab(height):
        view.resize(view.width(), int(height))
        QTimer.singleShot(3000, end)

    view.page().runJavaScript("document.documentElement.scrollHeight", grab)


def end():
    view.grab().save(screenshot)
    print(json.dumps({"requests": interceptor.urls, "messages": messages}), flush=True)
    os._exit(0)


url, width, height, screenshot, *images = sys.argv[1:]
app, messages, interceptor = QApplication(sys.argv[:1]), [], Requests()
profile = QWebEngineProfile()
profile.setUrlRequestInterceptor(interceptor)
view = QWebEngineView()
view.setPage(Page(profile, view))
view.resize(int(width), int(height))
view.show()
view.load(QUrl(url) if "://" in url else QUrl.fromLocalFile(os.path.abspath(url)))
READY = """
typeof engine !== "undefined" && (!!engine || at("status").className === "error")
"""
view.loadFinished.connect(lambda _: poll(READY, lambda _: drop(images)))
QTimer.singleShot(int(os.environ.get("LIMIT", "240")) * 1000, end)
app.exec()
