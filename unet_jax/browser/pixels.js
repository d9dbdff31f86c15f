// Reads an image's pixels as the package does: as viewers show it by EXIF, without its colour
// profile. What a browser would read otherwise is refused in one line.

class ImageError extends Error {}

const MOST_BYTES = 256 * 2 ** 20;
const REFUSED = "save it as a PNG of 8 bits";

// What the first bytes of a file tell: {width, height} where they do. Throws ImageError.
function checkHeader(bytes, name) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  if (bytes.length > 32 && text(1, 4) === "PNG") {
    if (bytes[24] === 16) {
      throw new ImageError(`${name} has 16 bits a channel, of which a browser keeps 8; ${REFUSED}.`);
    }
    for (let at = 8; at + 8 <= bytes.length && text(at + 4, at + 8) !== "IDAT"; ) {
      if (text(at + 4, at + 8) === "acTL") {
        throw new ImageError(`${name} holds several frames; save one of them.`);
      }
      at += 12 + view.getUint32(at);
    }
    return { width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return checkJpeg(bytes, view, name);
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") {
    if (text(12, 16) === "VP8X" && bytes[20] & 2) {
      throw new ImageError(`${name} holds several frames; save one of them.`);
    }
    return {};
  }
  if (text(0, 2) === "BM") return {};
  throw new ImageError(`${name} is no PNG, JPEG, WebP or BMP file, or is damaged; ${REFUSED}.`);
}

function checkJpeg(bytes, view, name) {
  for (let at = 2; at + 10 < bytes.length && bytes[at] === 0xff; ) {
    const kind = bytes[at + 1];
    if (kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind)) {
      if (bytes[at + 9] > 3) {
        throw new ImageError(`${name} has ${bytes[at + 9]} channels (CMYK); ${REFUSED}.`);
      }
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) };
    }
    at += 2 + view.getUint16(at + 2);
  }
  return {};
}

function checkSize({ width, height }, name, most) {
  if (width * height > most) {
    throw new ImageError(
      `${name} has ${width} x ${height} pixels; ${most.toLocaleString("en")} are the most here. ` +
        "Make it smaller, cut it, or use the command.",
    );
  }
}

// Draws a file on a canvas of its own. Returns {name, width, height, canvas}.
async function readImage(file, most) {
  if (file.size > MOST_BYTES) {
    throw new ImageError(`${file.name} has ${Math.round(file.size / 2 ** 20)} MiB; 256 are the most here.`);
  }
  const header = checkHeader(new Uint8Array(await file.arrayBuffer()), file.name);
  checkSize(header, file.name, most); // before it is decoded
  const how = {
    colorSpaceConversion: "none",
    imageOrientation: "from-image",
    premultiplyAlpha: "none",
  };
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, how);
  } catch {
    throw new ImageError(`${file.name} cannot be read as an image; it may be damaged.`);
  }
  checkSize(bitmap, file.name, most);
  const { width, height } = bitmap;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(bitmap, 0, 0);
  bitmap.close();
  return { name: file.name, width, height, canvas };
}

// The values of a read image, Uint8Array [height, width, channels].
function readValues(image, channels) {
  const { width, height, canvas, name } = image;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = new Uint8Array(width * height * channels);
  for (let from = 0, to = 0; from < data.length; from += 4, to += channels) {
    if (data[from + 3] !== 255) {
      throw new ImageError(
        `${name} is transparent in places, where a browser changes its colours; save it without ` +
          "transparency.",
      );
    }
    if (channels === 1 && (data[from] !== data[from + 1] || data[from] !== data[from + 2])) {
      throw new ImageError(`${name} has colours, and the model reads grey values; save it as grey.`);
    }
    for (let c = 0; c < channels; c++) values[to + c] = data[from + c];
  }
  return values;
}

// Whether a canvas gives back what was put on it; some browsers add noise, so that pages cannot
// tell readers apart.
function readsExactly() {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const drawn = context.createImageData(64, 64);
  drawn.data.forEach((_, i) => (drawn.data[i] = i % 4 === 3 ? 255 : (i * 7919) >> 3));
  context.putImageData(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, 64, 64);
  return data.every((value, i) => value === drawn.data[i]);
}
