// Turns pen strokes into the form of the dataset: 8x8 numbers from 0 to 16.
// It knows how those images were made, and nothing of canvases, events or networks.
//
// Their makers scaled each digit to 32x32 dots and counted the inked dots of each 4x4 block.
// Measured over all 1,797 images: a digit is as high as the square, about 20 dots wide, and 310
// of the 1,024 dots are ink. Which digit it is matters little, so a short stroke is a thick one.

const DOTS = 32;
const BLOCK = 4;
const SIDE = DOTS / BLOCK;
const WIDEST = 20;
const NARROWING = 0.6;
const INK = 310;
const THINNEST = 3;
const THICKEST = 8.5;

/**
 * 64 counts from strokes, each a list of [x, y] in any unit; `null` where nothing is drawn.
 * @param {number[][][]} strokes
 * @returns {Float32Array | null}
 */
export function digitise(strokes) {
  if (!strokes.some((stroke) => stroke.length > 0)) return null;
  let width = 5;
  let distances;
  // The width decides how much room the line's own thickness takes, and the room decides the width.
  for (let round = 0; round < 3; round++) {
    distances = distancesFrom(placed(strokes, DOTS - width));
    const sorted = Float32Array.from(distances).sort();
    width = Math.min(THICKEST, Math.max(THINNEST, 2 * sorted[INK - 1]));
  }
  const pixels = new Float32Array(SIDE * SIDE);
  distances.forEach((distance, dot) => {
    if (distance > width / 2) return;
    const column = Math.floor((dot % DOTS) / BLOCK);
    const row = Math.floor(dot / DOTS / BLOCK);
    pixels[row * SIDE + column] += 1;
  });
  return pixels;
}

/** The strokes moved to the middle of the square, scaled to `height` and the usual width. */
function placed(strokes, height) {
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [x, y] of strokes.flat()) {
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [top, bottom] = [Math.min(top, y), Math.max(bottom, y)];
  }
  const wide = right - left;
  const high = bottom - top;
  // A dash or a dot stays one: it is not blown up to the height of the square.
  const down = height / Math.max(high, wide / 2, 1e-3);
  // Wide and narrow digits are drawn towards the usual width, as they are in the dataset.
  const widest = WIDEST - (DOTS - height);
  const target = Math.min(widest, widest * (wide * down / widest) ** NARROWING);
  const across = target / Math.max(wide, 1e-3);
  return strokes.map((stroke) => stroke.map(([x, y]) => [
    DOTS / 2 + (x - (left + right) / 2) * across,
    DOTS / 2 + (y - (top + bottom) / 2) * down,
  ]));
}

/** How far the middle of each dot is from the nearest stroke; infinity where no line is so thick. */
function distancesFrom(strokes) {
  const nearest = new Float32Array(DOTS * DOTS).fill(Infinity);
  for (const stroke of strokes) {
    stroke.forEach(([x, y], at) => {
      const [fromX, fromY] = stroke[Math.max(0, at - 1)];
      const [alongX, alongY] = [x - fromX, y - fromY];
      const square = alongX * alongX + alongY * alongY;
      const [left, right] = reached(fromX, x);
      const [top, bottom] = reached(fromY, y);
      for (let row = top; row < bottom; row++) {
        for (let column = left; column < right; column++) {
          const [dx, dy] = [column + 0.5 - fromX, row + 0.5 - fromY];
          const part = square === 0 ? 0 : Math.min(1, Math.max(0, (dx * alongX + dy * alongY) / square));
          const distance = Math.hypot(dx - part * alongX, dy - part * alongY);
          if (distance < nearest[row * DOTS + column]) nearest[row * DOTS + column] = distance;
        }
      }
    });
  }
  return nearest;
}

/** The first dot that a line from one place to another may ink, and the one after the last. */
function reached(from, to) {
  const inside = (place) => Math.min(DOTS, Math.max(0, place));
  return [
    inside(Math.floor(Math.min(from, to) - THICKEST / 2)),
    inside(Math.ceil(Math.max(from, to) + THICKEST / 2)),
  ];
}
