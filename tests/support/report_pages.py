"""Pages of reports, and what their tables hold."""

import csv
from html.parser import HTMLParser

from unet_jax.report.assemble import assemble
from unet_jax.report.material import gather
from unet_jax.report.pages import write_report


class Tables(HTMLParser):
    """Reads tables with an id as lists of cells, and notes every address that a page names."""

    def __init__(self):
        super().__init__()
        self.tables, self.addresses, self.tags = {}, [], []
        self._rows = self._cell = None

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.addresses += [given[k] for k in ("src", "href", "srcset", "data") if k in given]
        if tag == "table":
            self._rows = self.tables.setdefault(given.get("id", ""), [])
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._rows[-1].append(self._cell)
            self._cell = None


def write(folder, *, split="val", baseline=None, folders=None, images=0):
    material = gather(folders or [folder], split, baseline or {}, 300)
    write_report(assemble(material, images), folder / "report")
    return read(folder / "report")


def read(report):
    parser = Tables()
    parser.feed((report / "report.html").read_text())
    return parser


def read_csv(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))
