// The page's end of the worker: sessions as objects whose calls are promises.
// It knows the messages of worker.js and nothing of what is computed.

let worker = null;
const waiting = new Map();
let asked = 0;
let opened = 0;
let fault = null;

/** Starts the engine of the kind of session that a page opens; a page opens one kind only. */
function start(kind) {
  worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: kind.toLowerCase() });
  worker.onmessage = ({ data }) => {
    if ('fault' in data) return stop(data.fault);
    const call = waiting.get(data.id);
    if (!call) return;
    if ('told' in data) return call.tell?.(data.told, call.name);
    waiting.delete(data.id);
    if ('error' in data) call.reject(new Error(data.error));
    else call.resolve(data);
  };
  worker.onerror = (event) => {
    stop(`the engine stopped: ${event.message ?? 'its worker could not be loaded'}; reload the page`);
  };
}

function stop(message) {
  fault = message;
  for (const call of waiting.values()) call.reject(new Error(message));
  waiting.clear();
}

function ask(message, name, tell) {
  return new Promise((resolve, reject) => {
    if (fault) return reject(new Error(fault));
    const id = ++asked;
    waiting.set(id, { resolve, reject, tell, name });
    worker.postMessage({ ...message, id });
  });
}

/** Whether the GPU is gone; the next step of a session that learns then goes on on another. */
export const isLost = ({ message }) => message.includes('was lost');

/**
 * Opens a session in place of the one before; `tell` gets what a call reports on its way.
 * @param {'Digits' | 'Gpt' | 'Speed'} kind
 * @param {unknown[]} args
 * @param {{ tell?: (told: unknown, method: string) => void }} [options]
 */
export async function open(kind, args, { tell } = {}) {
  const mine = ++opened;
  if (!worker) start(kind);
  await ask({ call: 'open', kind, args }, 'open', tell);
  /** What a call comes to, and for how many milliseconds it ran: a call may have to wait for another. */
  const timed = (method, ...rest) => (mine === opened
    ? ask({ call: method, args: rest }, method, tell)
    : Promise.reject(new Error(`${method}: the session is closed`)));
  return {
    timed,
    call: (method, ...rest) => timed(method, ...rest).then(({ value }) => value),
    close() {
      if (mine !== opened) return Promise.resolve();
      opened += 1;
      return ask({ call: 'close' }, 'close');
    },
  };
}
