// Writes a mask as the command does: an indexed PNG of 8 bits whose pixels are class ids.

const CRC_TABLE = new Int32Array(256).map((_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function pngChunk(kind, data) {
  const chunk = new Uint8Array(data.length + 12);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) chunk[4 + i] = kind.charCodeAt(i);
  chunk.set(data, 8);
  view.setUint32(data.length + 8, crc32(chunk.subarray(4, data.length + 8)));
  return chunk;
}

async function deflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// label: Uint8Array of height * width ids; colours: [r, g, b] of each class. Returns a Blob.
async function writeMask(label, width, height, colours) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits, indexed
  const palette = new Uint8Array(768).fill(190);
  colours.forEach((colour, id) => palette.set(colour, 3 * id));
  const rows = new Uint8Array(height * (width + 1)); // each begins with its filter, none
  for (let y = 0; y < height; y++) {
    rows.set(label.subarray(y * width, (y + 1) * width), y * (width + 1) + 1);
  }
  const start = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks = [pngChunk("IHDR", header), pngChunk("PLTE", palette)];
  chunks.push(pngChunk("IDAT", await deflate(rows)), pngChunk("IEND", new Uint8Array(0)));
  return new Blob([start, ...chunks], { type: "image/png" });
}
