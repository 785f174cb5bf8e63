// The training loop of a page: open, train, pause, reset, weights in and out, the plug.
// It knows sessions that have about, step, flush, save, load and loseDevice; what is learned, and
// what a page does between steps, is the page's own (`hooks`).

import { frames, pace, seldom } from './clocks.js';
import { isLost, open } from './engine.js';
import { $, bytes, device, download, fail, grouped, notice, record, say, short, timing } from './page.js';

/** Weights are a few hundred kilobytes: what is larger is another file. */
const FILE_BYTES_MAX = 64 * 1024 ** 2;

/**
 * @param {{ kind: string, file: string, args: () => Promise<unknown[]>, tell?: Function,
 *   hooks: { cleared: Function, opened?: Function, stepped: Function, rested?: Function,
 *     loaded?: Function, paint: Function } }} options
 * `cleared()` forgets what an earlier session showed; `opened()`, `stepped(result)` and `loaded()`
 * are awaited; `rested(result)` follows the last step before a pause or the end; `paint(result,
 * about)` shows what is the page's own and must be cheap, both are null before they are known.
 */
export function training({ kind, file, args, tell, hooks }) {
  const watch = frames();
  const speed = pace();
  const repaint = seldom(80, paint);
  let session = null;
  let about = null;
  let last = null;
  let done = false;
  let weights = null; // what the user loaded: until a step was taken, a lost GPU has the only other copy
  let wanted = false; // what the user asked for last: to train, or not to
  let pending = false; // whether a session is being opened
  let asked = 0; // the number of the session that was asked for last
  let active = 0; // the session whose loop runs; it ends a step later than it is asked to
  let loop = Promise.resolve();
  let opening = Promise.resolve();

  function reset() {
    const mine = ++asked;
    wanted = false;
    pending = true;
    opening = start(mine);
    buttons();
    return opening;
  }

  async function start(mine) {
    await loop;
    if (mine !== asked) return;
    [session, about, weights] = [null, null, null];
    forget();
    watch.clear();
    timing('firstStep', null);
    notice('');
    $('file-note').textContent = '';
    device({ device: '–', kind: '', why: 'not known yet' });
    hooks.cleared();
    paint();
    buttons();
    say('opening');
    try {
      const opened = await open(kind, await args(), { tell });
      const told = await opened.call('about');
      if (mine !== asked) return;
      [session, about] = [opened, told];
      device(about);
      await hooks.opened?.();
      if (mine !== asked) return;
      paint();
      say('ready');
    } catch (error) {
      if (mine !== asked) return;
      fail(error);
    }
    pending = false;
    buttons();
  }

  /** Nothing is learned yet. */
  function forget() {
    [last, done] = [null, false];
    record.losses.length = 0;
    record.accuracies.length = 0;
    speed.clear();
  }

  async function train(clicked) {
    const mine = asked;
    const going = () => wanted && !done && mine === asked;
    active = mine;
    await opening;
    if (session && mine === asked) {
      notice('');
      watch.run();
      try {
        while (going()) await steps(clicked, going);
      } catch (error) {
        shown(error);
        say('stopped');
      }
      watch.stop();
    }
    // A reset may have been asked for meanwhile, and another loop be waiting for this one to end.
    if (active !== mine) return;
    active = 0;
    wanted = false;
    paint();
    buttons();
  }

  async function steps(clicked, going) {
    say('training');
    while (going()) {
      const { value: result, took } = await session.timed('step');
      speed.add(took);
      if (!$('timing').dataset.firstStep) timing('firstStep', performance.now() - clicked);
      await take(result);
      buttons();
      await attempt(() => hooks.stepped(result));
      repaint();
    }
    await attempt(async () => {
      await take(await session.call('flush'));
      await hooks.rested?.(last);
    });
    paint();
    say(done ? 'done' : 'paused');
  }

  async function take(result) {
    last = result;
    done = result.done;
    // After a recovery steps come again; what was measured of them the first time is forgotten.
    for (const [step, loss] of result.losses) {
      while (record.losses.length > 0 && record.losses.at(-1)[0] >= step) record.losses.pop();
      record.losses.push([step, loss]);
    }
    while (record.accuracies.length > 0 && record.accuracies.at(-1)[0] > result.step) record.accuracies.pop();
    if (result.notice) {
      notice(result.notice);
      about = await session.call('about');
      device(about);
      buttons();
      if (weights && result.step === 0) await session.call('load', weights);
    }
  }

  function paint() {
    $('step').textContent = last?.step ?? 0;
    $('steps-total').textContent = about ? ` of ${about.steps}` : '';
    $('loss').textContent = record.losses.length > 0 ? record.losses.at(-1)[1].toFixed(4) : '–';
    $('speed').textContent = short(speed.perSecond);
    if (watch.longest > 0) {
      $('frames').dataset.longest = Math.round(watch.longest);
      $('frames').textContent = `${Math.round(watch.longest)} ms`;
    } else {
      delete $('frames').dataset.longest;
      $('frames').textContent = '–';
    }
    memory();
    hooks.paint(last, about);
  }

  function memory() {
    const line = $('memory');
    if (!last) {
      for (const name of ['live', 'peak', 'pooled']) delete line.dataset[name];
      line.textContent = $('memory-exact').textContent = 'known after the first step';
      return;
    }
    const { liveBytes: live, peakBytes: peak, pooledBytes: pooled } = last;
    Object.assign(line.dataset, { live, peak, pooled });
    line.textContent = `${bytes(live)} in use, ${bytes(peak)} at most`;
    $('memory-exact').textContent =
      `${grouped(live)} bytes in use, ${grouped(peak)} at most, ${grouped(pooled)} kept for reuse`;
  }

  function buttons() {
    const begun = active > 0 || last !== null;
    $('train').textContent = wanted && !done ? 'Pause' : 'Train';
    $('train').disabled = done || (!session && !pending);
    $('reset').disabled = false;
    for (const fieldset of document.querySelectorAll('fieldset.settings')) fieldset.disabled = begun;
    for (const id of ['save', 'load']) $(id).disabled = !session;
    $('plug').disabled = about?.kind !== 'gpu';
  }

  /** Runs what a button asks for; a mistake is shown and nothing else stops. */
  async function attempt(action) {
    try {
      await action();
    } catch (error) {
      shown(error);
    }
  }

  /** Shows a mistake. Where the GPU is gone training is not at its end: it goes on from before that. */
  function shown(error) {
    notice(error.message);
    if (!isLost(error)) return;
    done = false;
    buttons();
  }

  $('train').addEventListener('click', () => {
    wanted = !wanted;
    if (wanted && active !== asked) loop = train(performance.now());
    buttons();
  });
  $('reset').addEventListener('click', reset);
  for (const fieldset of document.querySelectorAll('fieldset.settings')) fieldset.addEventListener('change', reset);
  $('save').addEventListener('click', () => attempt(async () => {
    download(file, await session.call('save'));
    $('file-note').textContent = `saved as ${file}`;
  }));
  $('load').addEventListener('change', () => attempt(async () => {
    const [chosen] = $('load').files;
    $('load').value = '';
    if (!chosen) return;
    if (chosen.size > FILE_BYTES_MAX) {
      throw new Error(`${chosen.name}: ${bytes(chosen.size)} are no weights; they have ${bytes(FILE_BYTES_MAX)} at most`);
    }
    const given = new Uint8Array(await chosen.arrayBuffer());
    await session.call('load', given);
    weights = given;
    forget();
    $('file-note').textContent = `${chosen.name} loaded`;
    if (!active) say('ready');
    paint();
    buttons();
    await hooks.loaded?.();
    paint();
  }));
  $('plug').addEventListener('click', () => attempt(async () => {
    await session.call('loseDevice');
    if (active) return;
    done = false;
    notice('The GPU is gone; the next step finds out and recovers.');
    buttons();
  }));

  return {
    reset,
    repaint,
    attempt,
    call: (method, ...rest) => (session
      ? session.call(method, ...rest)
      : Promise.reject(new Error(`${method}: no session is open`))),
    get open() { return session !== null; },
    get about() { return about; },
  };
}
