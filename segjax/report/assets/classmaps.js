"use strict";
// Class maps in the browser: arrays with one class per pixel, 255 = void. Functions of
// arrays only; viewer.js has the page.

const VOID = 255;
const VERDICTS = [
  { name: "right", color: [235, 235, 235] },
  { name: "wrong", color: [214, 39, 40] },
  { name: "void", color: [0, 0, 0] },
];

// The inverse of `encode_classes` in page_viewer.py.
async function decodeClasses(uri, { width, height }, step, numClasses) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const levels = context.getImageData(0, 0, width, height).data;
  return Uint8Array.from({ length: width * height }, (_, i) => {
    const index = Math.round(levels[4 * i] / step);
    return index === numClasses ? VOID : index;
  });
}

// Index into VERDICTS for every pixel; void is never an error.
function judge(prediction, label) {
  return label.map((id, i) => (id === VOID ? 2 : Number(prediction[i] !== id)));
}

// Bytes in memory are red, green, blue, alpha; the lowest byte comes first.
function pack([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

function paint(canvas, { width, height }, values, palette) {
  const pixels = new ImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let i = 0; i < words.length; i++) words[i] = palette[values[i]];
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

// Where `maps` differ near a boundary of the label: counts such pixels in tiles and
// gives centre (in 0..1) and magnification of the fullest tiles, first the fullest.
// "Near" is the tolerance of boundary F1, 0.75 % of the diagonal.
function findSpots(label, maps, { width, height }) {
  const reach = Math.max(1, Math.round(0.0075 * Math.hypot(width, height)));
  const tile = Math.max(8, Math.round(Math.max(width, height) / 16));
  const nearBoundary = (x, y) => {
    const own = label[y * width + x];
    for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
      for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u++) {
        const other = label[v * width + u];
        if (other !== own && other !== VOID) return true;
      }
    }
    return false;
  };
  const tiles = new Map();
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (label[i] === VOID || maps.every((map) => map[i] === maps[0][i])) continue;
      if (!nearBoundary(x, y)) continue;
      const key = Math.floor(y / tile) * width + Math.floor(x / tile);
      const sum = tiles.get(key) ?? { count: 0, x: 0, y: 0 };
      tiles.set(key, { count: sum.count + 1, x: sum.x + x + 0.5, y: sum.y + y + 0.5 });
    }
  }
  const zoom = Math.max(2, width / (3.5 * tile));
  return [...tiles.values()]
    .sort((a, b) => b.count - a.count)
    .slice(0, 30)
    .map(({ count, x, y }) => ({ x: x / count / width, y: y / count / height, zoom }));
}
