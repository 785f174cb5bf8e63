// The digits page: a network learns to read handwriting, and reads what is drawn on the pad.
// It joins the parts of the page; training.js knows how to train, shape.js what a drawing becomes.

import { chart } from './chart.js';
import { pad } from './pad.js';
import { $, fail, fromAddress, grouped, numberOf, record } from './page.js';
import { digitise } from './shape.js';
import { grid, ink } from './tiles.js';
import { training } from './training.js';

const data = fetch('./digits.csv.gz').then(async (answer) => {
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  // Some servers have it unpacked on the way.
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(plain).arrayBuffer());
}).catch((error) => {
  throw new Error(`digits.csv.gz could not be loaded: ${error.message}; reload the page`);
});
// Each opening waits for the data and reports its failure itself.
data.catch(() => {});

const losses = chart($('loss-chart'), { name: 'Loss', smooth: true });
const accuracies = chart($('accuracy-chart'), { name: 'Test accuracy', marks: true, top: 1 });
const tiles = grid($('tiles'));

fromAddress('device', 'batch', 'epochs');

const page = training({
  kind: 'Digits',
  file: 'digits.safetensors',
  args: async () => [await data, $('device').value, Number($('batch').value), numberOf('epochs')],
  hooks: { cleared, opened, stepped, rested, loaded, paint },
});

function cleared() {
  $('accuracy').textContent = '–';
  $('mistakes').textContent = 'nothing read yet';
}

async function opened() {
  tiles.images(await page.call('testImages'));
  await read();
}

async function stepped({ step, done }) {
  if (!done && step % page.about.stepsPerEpoch === 0) await evaluate(step);
}

async function rested({ step, done }) {
  if (done) await evaluate(step);
  else await read();
}

async function loaded() {
  await evaluate(null);
}

/** Reads all test images; the accuracy joins the curve if it belongs to a step. */
async function evaluate(step) {
  const { accuracy, predictions, labels } = await page.call('evaluate');
  if (step !== null) record.accuracies.push([step, accuracy]);
  $('accuracy').textContent = accuracy.toFixed(4);
  const mistakes = tiles.read(predictions, labels);
  $('mistakes').textContent = `${mistakes} ${mistakes === 1 ? 'mistake' : 'mistakes'} in ${labels.length} images`;
  await read();
}

function paint(last, about) {
  $('epoch').textContent = last?.epoch ?? 0;
  $('epochs-total').textContent = ` of ${$('epochs').value}`;
  if (about) {
    const [weights, train, test] = [about.weights, about.trainImages, about.testImages].map(grouped);
    $('sizes').textContent = `${weights} weights, ${train} images to learn from, ${test} to be tested on.`;
  }
  losses.show(record.losses, about?.steps ?? 1);
  accuracies.show(record.accuracies, about?.steps ?? 1);
}

// The pad and what is read on it.

const bars = Array.from({ length: 10 }, (_, digit) => {
  const item = document.createElement('li');
  const [name, bar, value] = ['span', 'span', 'span'].map((tag) => document.createElement(tag));
  const fill = document.createElement('span');
  name.textContent = digit;
  bar.className = 'bar';
  value.textContent = '–';
  bar.append(fill);
  item.append(name, bar, value);
  $('probabilities').append(item);
  return { item, fill, value };
});

const drawing = pad($('pad'), {
  changed: () => page.attempt(read),
  told: (words) => { $('pen').textContent = words; },
});
$('clear').addEventListener('click', drawing.clear);

let reading = false;
let stale = false;

/** Reads the drawing; while one reading is under way, later ones become one. */
async function read() {
  stale = true;
  if (reading) return;
  reading = true;
  try {
    while (stale) {
      stale = false;
      const pixels = digitise(drawing.strokes);
      ink($('seen'), pixels ?? new Float32Array(64));
      show(pixels && page.open ? await page.call('predict', pixels) : null);
    }
  } finally {
    reading = false;
  }
}

function show(probabilities) {
  const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : -1;
  $('guess').textContent = best < 0 ? '–' : String(best);
  bars.forEach(({ item, fill, value }, digit) => {
    const part = probabilities?.[digit] ?? 0;
    item.classList.toggle('best', digit === best);
    fill.style.inlineSize = `${(part * 100).toFixed(1)}%`;
    value.textContent = probabilities ? `${(part * 100).toFixed(0)} %` : '–';
  });
}

// What this device has in common with every other; asked for when somebody looks.
$('more').addEventListener('toggle', () => page.attempt(async () => {
  if (!$('more').open || !page.open) return;
  const prints = await page.call('fingerprints');
  Object.assign($('fingerprints').dataset, prints);
  $('fingerprints').textContent = `${prints.bits}, ${prints.uniforms}, ${prints.weights}`;
}));

$('mistakes-only').addEventListener('change', ({ target }) => {
  $('tiles').classList.toggle('mistakes-only', target.checked);
  $('all').hidden = target.checked;
});
$('all').addEventListener('click', () => {
  const all = $('tiles').classList.toggle('all');
  $('all').textContent = all ? 'Show fewer' : 'Show all';
});

page.reset().catch(fail);
