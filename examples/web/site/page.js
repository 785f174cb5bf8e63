// What every demo page has: the status line, notices, settings from the address, numbers as text.
// It knows ids that the pages share, and nothing of sessions or training.

export const $ = (id) => document.getElementById(id);

/** What the end-to-end tests read. */
export const record = { losses: [], accuracies: [] };
window.wgradPage = record;

/** Shows a state ('ready', 'training', …) or a message in the status line. */
export function say(text) {
  const line = $('status');
  line.textContent = text;
  line.dataset.state = text;
  if (text === 'ready' && !$('timing')?.dataset.interactive) {
    timing('interactive', performance.now());
  }
}

/** Shows what the user must know, a recovery or a mistake; '' takes it away. */
export function notice(text) {
  $('notice').textContent = text;
  $('notice').hidden = text === '';
}

/** Shows a mistake and says in the status line that things stand still. */
export function fail(error) {
  notice(error.message);
  say('stopped');
}

export function timing(name, milliseconds) {
  const element = $('timing');
  if (!element) return;
  if (milliseconds === null) delete element.dataset[name];
  else element.dataset[name] = Math.round(milliseconds);
  const { interactive, firstStep } = element.dataset;
  const parts = [];
  if (interactive) parts.push(`ready ${interactive} ms after the page was asked for`);
  if (firstStep) parts.push(`first step done ${firstStep} ms after Train`);
  element.textContent = parts.join(', ') || '–';
}

/** Sets controls from the address, as in `?device=cpu&epochs=5`; what does not fit is ignored. */
export function fromAddress(...ids) {
  const query = new URLSearchParams(location.search);
  for (const id of ids) {
    const control = $(id);
    const before = control.value;
    const wanted = query.get(id);
    if (wanted === null) continue;
    control.value = wanted;
    if (control.value !== wanted || !control.checkValidity()) control.value = before;
  }
}

/** A number field's value, brought inside its own limits. */
export function numberOf(id) {
  const field = $(id);
  const given = Number(field.value || field.defaultValue);
  const value = Math.min(Number(field.max), Math.max(Number(field.min), given));
  field.value = value;
  return value;
}

// Browsers do not tell the engine the name of a GPU, but a page its maker and family.
let gpu = null;
const ask = () => navigator.gpu?.requestAdapter().then((adapter) => adapter?.info, () => null);

/** Shows on which device a session runs, and why. */
export async function device({ device: name, kind, why }) {
  const info = kind === 'gpu' ? await (gpu ??= ask()) : null;
  const told = [info?.description || info?.vendor, info?.description ? '' : info?.architecture].filter(Boolean);
  $('device-name').textContent = told.join(' ') || name;
  $('device-name').dataset.kind = kind;
  $('device-why').textContent = why;
}

export function bytes(count) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB'];
  const power = count < 1024 ? 0 : Math.min(3, Math.floor(Math.log2(count) / 10));
  return `${power === 0 ? count : short(count / 1024 ** power)} ${units[power]}`;
}

/** Three digits that count: 0.123, 1.23, 12.3, 1230. */
export function short(value) {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  return value.toFixed(size >= 100 || size === 0 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

export const grouped = (value) => value.toLocaleString('en-GB');

/** Hands bytes to the user as a file. */
export function download(name, data) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([data], { type: 'application/octet-stream' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
