"use strict";
// Reads the indexed PNGs of the server to the last index. A canvas would give colours,
// which two classes may share and which a browser may alter.

// Returns {width, height, values}: one index per pixel. For 8-bit indexed PNGs that are
// not interlaced; throws on others. `bytes` is a Uint8Array.
async function decodeIndexedPng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [width, height] = [view.getUint32(16), view.getUint32(20)];
  if (bytes[24] !== 8 || bytes[25] !== 3 || bytes[28] !== 0) throw new Error("not an indexed PNG");
  const parts = [];
  for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(inflated).arrayBuffer());
  const values = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const start = row * (width + 1);
    unfilter(lines[start], lines.subarray(start + 1, start + 1 + width), values, row * width, width);
  }
  return { width, height, values };
}

// PNG specification, section 9: `line` plus what its filter predicts, into `values`
// from `at` on.
function unfilter(filter, line, values, at, width) {
  if (filter === 0) {
    values.set(line, at);
    return;
  }
  for (let x = 0; x < width; x++) {
    const left = x ? values[at + x - 1] : 0;
    const up = at ? values[at + x - width] : 0;
    const corner = x && at ? values[at + x - width - 1] : 0;
    let predicted = (left + up) >> 1;
    if (filter === 1) predicted = left;
    if (filter === 2) predicted = up;
    if (filter === 4) predicted = paeth(left, up, corner);
    values[at + x] = line[x] + predicted;
  }
}

function paeth(left, up, corner) {
  const a = Math.abs(up - corner);
  const b = Math.abs(left - corner);
  const c = Math.abs(left + up - 2 * corner);
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}
