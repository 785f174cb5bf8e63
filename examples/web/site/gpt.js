// The GPT page: a small transformer learns to write like a text, and writes on what it is given.
// It joins the parts of the page; training.js knows how to train.

import { chart } from './chart.js';
import { $, fail, fromAddress, grouped, numberOf, record } from './page.js';
import { TEXT } from './text.js';
import { training } from './training.js';

const BITS = 1 / Math.LN2;
const SAMPLE = { every: 25, length: 80, temperature: 0.7, most: 40 };

const losses = chart($('loss-chart'), {
  name: 'Loss in nats per byte', smooth: true, right: BITS,
});

$('text').value = TEXT;
fromAddress('device', 'steps');

let told = () => {};
let generating = false;

const page = training({
  kind: 'Gpt',
  file: 'gpt.safetensors',
  args: async () => [$('text').value, $('device').value, numberOf('steps')],
  tell: (value, method) => { if (method === 'write') told(value); },
  hooks: { cleared, opened: ready, stepped, rested, paint },
});

function cleared() {
  $('samples').replaceChildren();
  $('no-samples').hidden = false;
  ready();
}

function ready() {
  $('generate').disabled = generating || !page.open;
}

async function stepped({ step, done }) {
  if (!done && step % SAMPLE.every === 0) await sample(step);
}

async function rested({ step, done }) {
  if (done) await sample(step);
}

/** Adds what the network writes after `step` on top of the list, while it writes. */
async function sample(step) {
  const item = document.createElement('li');
  const head = document.createElement('span');
  const body = document.createElement('p');
  head.textContent = `step ${step}`;
  item.append(head, body);
  $('no-samples').hidden = true;
  $('samples').prepend(item);
  while ($('samples').children.length > SAMPLE.most) $('samples').lastElementChild.remove();
  await write($('prompt').value, SAMPLE.length, SAMPLE.temperature, step, body);
}

/** Lets the network go on after `prompt`, and shows prompt and text in `place` as they come. */
function write(prompt, length, temperature, seed, place) {
  const given = document.createElement('span');
  given.className = 'given';
  given.textContent = prompt;
  const show = (text) => place.replaceChildren(given, text);
  return queued(async () => {
    told = show;
    show(await page.call('write', prompt, length, temperature, seed));
  });
}

/** One text at a time: what is told while a text is written belongs to that text. */
let writing = Promise.resolve();
function queued(action) {
  const result = writing.then(action);
  writing = result.catch(() => {});
  return result;
}

$('generate').addEventListener('click', async () => {
  generating = true;
  ready();
  $('output').setAttribute('aria-busy', 'true');
  await page.attempt(() => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0];
    return write($('prompt').value, numberOf('length'), numberOf('temperature'), seed, $('output'));
  });
  $('output').removeAttribute('aria-busy');
  generating = false;
  ready();
});

function paint(_, about) {
  const loss = record.losses.at(-1)?.[1];
  $('bits').textContent = loss === undefined ? '–' : (loss * BITS).toFixed(3);
  if (about) {
    const [weights, size] = [about.weights, about.bytes].map(grouped);
    $('sizes').textContent =
      `${weights} weights; ${size} bytes of text, ${about.batch} pieces of ${about.context} bytes a step.`;
  }
  losses.show(record.losses, about?.steps ?? 1);
}

page.reset().catch(fail);
