// The speed page: runs the engine's own cases on this machine and puts the figures into a table.
// It knows cases by id and name, and nothing of what they compute.

import { isLost, open } from './engine.js';
import { $, device, fail, fromAddress, notice, record, say, short } from './page.js';

const COLUMNS = [
  { name: 'time a run', of: ({ seconds }) => duration(seconds) },
  { name: 'GFLOP/s', of: ({ gflops }) => figure(gflops) },
  { name: 'GB/s', of: ({ gbs }) => figure(gbs) },
  { name: 'steps/s', of: ({ perSecond }) => figure(perSecond) },
  { name: 'runs', of: ({ runs }) => String(runs) },
];

let session = null;
let about = null;
let cases = [];
let results = new Map();
let running = false;
let asked = 0;

const figure = (value) => (value === null || value === undefined ? '–' : short(value));

function duration(seconds) {
  if (seconds >= 1) return `${short(seconds)} s`;
  return seconds >= 1e-3 ? `${short(seconds * 1e3)} ms` : `${short(seconds * 1e6)} µs`;
}

async function start() {
  const mine = ++asked;
  [session, cases, results] = [null, [], new Map()];
  notice('');
  table();
  $('share').textContent = 'not run yet';
  $('copied').textContent = '';
  device({ device: '–', kind: '', why: 'not known yet' });
  say('opening');
  buttons();
  try {
    const opened = await open('Speed', [$('device').value]);
    const facts = await opened.call('about');
    const list = await opened.call('cases');
    if (mine !== asked) return;
    [session, about, cases] = [opened, facts, list];
    await device(about);
    if (mine !== asked) return;
    table();
    share();
    say('ready');
  } catch (error) {
    if (mine === asked) fail(error);
  }
  buttons();
}

function table() {
  $('rows').replaceChildren(...cases.map(({ id, name, what }) => {
    const row = document.createElement('tr');
    row.id = `case-${id}`;
    row.setAttribute('role', 'row');
    const head = document.createElement('th');
    const about = document.createElement('small');
    head.scope = 'row';
    head.setAttribute('role', 'rowheader');
    about.textContent = what;
    head.append(name, about);
    const cells = COLUMNS.map(({ name: column }) => {
      const cell = document.createElement('td');
      cell.dataset.column = column;
      cell.setAttribute('role', 'cell');
      fill(cell, '–');
      return cell;
    });
    row.append(head, ...cells);
    return row;
  }));
}

function fill(cell, text) {
  cell.textContent = text;
  cell.classList.toggle('none', text === '–');
}

async function run() {
  running = true;
  results = new Map();
  record.results = results;
  notice('');
  table();
  buttons();
  $('progress').hidden = false;
  $('progress').max = cases.length;
  let failed = 0;
  let lost = '';
  for (const [at, { id, name }] of cases.entries()) {
    $('progress').value = at;
    say(`running ${name}, ${at + 1} of ${cases.length}`);
    const row = $(`case-${id}`);
    row.className = 'now';
    try {
      const result = await session.call('run', id);
      results.set(id, result);
      COLUMNS.forEach(({ of }, column) => { fill(row.cells[column + 1], of(result)); });
    } catch (error) {
      failed += 1;
      fill(row.cells[1], 'failed');
      notice(`${name} failed: ${error.message}`);
      if (isLost(error)) lost = error.message;
    }
    row.className = '';
    share();
    if (lost) break;
  }
  $('progress').hidden = true;
  running = false;
  if (lost) {
    await start();
    if (session) notice(`The GPU was lost (${lost}). Here is another session: run it again.`);
    return;
  }
  buttons();
  say(failed === 0 ? 'done' : `done, ${failed} of ${cases.length} failed`);
}

/** The results as plain text, with what a reader needs to judge them. */
function share() {
  const head = ['case', ...COLUMNS.map(({ name }) => name)];
  const lines = cases.filter(({ id }) => results.has(id))
    .map(({ id, name }) => [name, ...COLUMNS.map(({ of }) => of(results.get(id)))]);
  const widths = head.map((_, column) => Math.max(...[head, ...lines].map((line) => line[column].length)));
  const shown = [head, ...lines].map((line) => line
    .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])))
    .join('  '));
  $('share').textContent = [
    `wgrad in a browser, ${new Date().toISOString().slice(0, 10)}`,
    `device: ${$('device-name').textContent} (${about.kind})`,
    `why: ${about.why}`,
    `browser: ${navigator.userAgent}`,
    '',
    ...(lines.length > 0 ? shown : ['not run yet']),
  ].join('\n');
}

function buttons() {
  $('run').disabled = running || !session;
  $('device').disabled = running;
  $('copy').disabled = running || results.size === 0;
}

$('run').addEventListener('click', () => run().catch(fail));
$('device').addEventListener('change', start);
$('copy').addEventListener('click', async () => {
  try {
    await navigator.clipboard.writeText($('share').textContent);
    $('copied').textContent = 'copied';
  } catch {
    // A browser may refuse the clipboard; the text is then selected, ready for the user's own copy.
    getSelection().selectAllChildren($('share'));
    $('copied').textContent = 'selected; copy it with your keyboard or menu';
  }
});

fromAddress('device');
start();
