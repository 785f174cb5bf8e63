// The drawing pad: strokes by mouse, finger, pen or keyboard, drawn on a canvas.
// It knows strokes in parts of its own side, from 0 to 1, and nothing of what they are read as.

const LINE = 0.075;
const NUDGE = 1 / 24;
/** Points nearer than this look like one, and a slow hand sends hundreds of them. */
const NEAREST = 0.01;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * A pad on `canvas`; `changed(strokes)` after each change, `told(words)` for what only a keyboard
 * user needs to hear.
 */
export function pad(canvas, { changed, told }) {
  let strokes = [];
  let pointer = null;
  const pen = { x: 0.5, y: 0.25, down: false, shown: false };

  function begin(x, y) {
    strokes.push([[x, y]]);
  }

  function extend(x, y) {
    const [lastX, lastY] = strokes.at(-1).at(-1);
    if (Math.hypot(x - lastX, y - lastY) >= NEAREST) strokes.at(-1).push([x, y]);
  }

  function after() {
    draw();
    changed(strokes);
  }

  function clear() {
    strokes = [];
    pen.down = false;
    pointer = null;
    after();
  }

  function place(event) {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const inside = (value) => Math.min(1, Math.max(0, value));
    return [inside((event.clientX - left) / width), inside((event.clientY - top) / height)];
  }

  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || pointer !== null) return;
    pointer = event.pointerId;
    canvas.setPointerCapture(pointer);
    pen.down = pen.shown = false;
    begin(...place(event));
    after();
  });
  canvas.addEventListener('pointermove', (event) => {
    if (event.pointerId !== pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const each of all.length > 0 ? all : [event]) extend(...place(each));
    after();
  });
  for (const name of ['pointerup', 'pointercancel']) {
    canvas.addEventListener(name, (event) => {
      if (event.pointerId === pointer) pointer = null;
    });
  }

  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in MOVES) move(...MOVES[event.key]);
    else if (event.key === ' ') toggle();
    else if (event.key === 'Delete' || event.key === 'Backspace') {
      clear();
      told('cleared');
    } else return;
    event.preventDefault();
    pen.shown = true;
    draw();
  });
  canvas.addEventListener('focus', () => {
    pen.shown = canvas.matches(':focus-visible');
    draw();
  });
  canvas.addEventListener('blur', () => {
    pen.shown = pen.down = false;
    draw();
  });

  function move(across, down) {
    pen.x = Math.min(1 - LINE, Math.max(LINE, pen.x + across * NUDGE));
    pen.y = Math.min(1 - LINE, Math.max(LINE, pen.y + down * NUDGE));
    if (!pen.down) return;
    extend(pen.x, pen.y);
    after();
  }

  function toggle() {
    pen.down = !pen.down;
    told(pen.down ? 'pen down' : 'pen up');
    if (!pen.down) return;
    begin(pen.x, pen.y);
    after();
  }

  function draw() {
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext('2d');
    context.clearRect(0, 0, side, side);
    // Black ink in both themes; the style sheet inverts it on dark paper.
    context.lineCap = context.lineJoin = 'round';
    context.lineWidth = LINE * side;
    for (const stroke of strokes) {
      context.beginPath();
      context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
      for (const [x, y] of stroke) context.lineTo(x * side, y * side);
      context.stroke();
    }
    if (pen.shown) cross(context, side);
  }

  /** Where the keyboard's pen is: a ring, filled while it is down. */
  function cross(context, side) {
    context.lineWidth = Math.max(1.5, side / 140);
    context.beginPath();
    context.arc(pen.x * side, pen.y * side, LINE * side * 0.75, 0, 2 * Math.PI);
    context.stroke();
    if (!pen.down) return;
    context.globalAlpha = 0.5;
    context.fill();
    context.globalAlpha = 1;
  }

  new ResizeObserver(draw).observe(canvas);
  return { clear, get strokes() { return strokes; } };
}
