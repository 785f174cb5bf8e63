// The worker in which the engine runs, so that the page never waits for it.
// It knows how to open a session and to pass calls on; it does not know what a call means. Its own
// name is that of the page whose engine it loads.
//
// In:  { id, call: 'open', kind, args }  or  { id, call: <method>, args }
// Out: { id, value, took } or { id, error }, before that any number of { id, told }; { fault } at any time

if (self.GPUDevice && !('adapterInfo' in GPUDevice.prototype)) lendInfo();

const engine = import(`./wgrad_${self.name}.js`).then(async (module) => {
  await module.default();
  return module;
}).catch((error) => {
  throw new Error(`the engine could not be loaded: ${words(error)}; reload the page`);
});
// Every call waits for the engine and reports its failure itself.
engine.catch(() => {});

let session = null;
let turn = Promise.resolve();

self.onmessage = ({ data }) => {
  // One after the other: a session is borrowed for as long as a call of it runs.
  turn = turn.then(() => answer(data));
};

// A panic inside a future that nobody awaits would leave its call without an answer.
self.addEventListener('unhandledrejection', (event) => {
  self.postMessage({ fault: words(event.reason) });
});

async function answer({ id, call, kind, args = [] }) {
  const tell = (told) => self.postMessage({ id, told });
  try {
    const began = performance.now();
    const found = await value(call, kind, [...args, tell]);
    self.postMessage({ id, value: found, took: performance.now() - began });
  } catch (error) {
    self.postMessage({ id, error: words(error) });
  }
}

async function value(call, kind, args) {
  const module = await engine;
  if (call === 'open' || call === 'close') {
    const former = session;
    session = null;
    // Its memory would wait for the browser to collect what it no longer needs.
    former?.loseDevice?.();
    former?.free?.();
    if (call === 'close') return null;
    if (typeof module[kind]?.open !== 'function') throw new Error(`open: no session of the kind ${kind}`);
    session = await module[kind].open(...args);
    return null;
  }
  if (!session) throw new Error(`${call}: no session is open`);
  if (typeof session[call] !== 'function') throw new Error(`${call}: the session has no such call`);
  return session[call](...args);
}

/**
 * wgpu ends where a device does not say what it is, as in Chrome before 132 and the first Safari 26
 * (November 2025); what its adapter says stands in. With no word of either there is no GPU.
 */
function lendInfo() {
  if (!('info' in GPUAdapter.prototype)) {
    Object.defineProperty(navigator, 'gpu', { value: undefined });
    return;
  }
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function lent(...wanted) {
    const device = await requestDevice.apply(this, wanted);
    return Object.defineProperty(device, 'adapterInfo', { value: this.info });
  };
}

function words(error) {
  const text = String(error?.message ?? error);
  const trapped = typeof WebAssembly === 'object' && error instanceof WebAssembly.RuntimeError;
  return trapped ? `the engine stopped: ${text}; reload the page` : text;
}
