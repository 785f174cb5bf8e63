// What the page measures of itself: how long frames take and how fast steps come.
// It knows nothing of what the steps do.

/** Watches the time between animation frames while it runs. */
export function frames() {
  let longest = 0;
  let last = null;
  let running = false;
  const frame = (now) => {
    if (!running) return;
    if (last !== null) longest = Math.max(longest, now - last);
    last = now;
    requestAnimationFrame(frame);
  };
  // A page in the background gets no frames; that is not a slow frame.
  document.addEventListener('visibilitychange', () => { last = null; });
  return {
    get longest() { return longest; },
    clear() { longest = 0; },
    run() {
      if (running) return;
      running = true;
      last = null;
      requestAnimationFrame(frame);
    },
    stop() { running = false; },
  };
}

/** Steps per second over about the last two seconds spent in steps. */
export function pace() {
  let times = [];
  return {
    add(milliseconds) {
      times.push(milliseconds);
      let sum = 0;
      let from = times.length;
      while (from > 0 && sum < 2000) sum += times[--from];
      times = times.slice(from);
    },
    clear() { times = []; },
    get perSecond() {
      const sum = times.reduce((all, time) => all + time, 0);
      return sum > 0 ? (times.length * 1000) / sum : NaN;
    },
  };
}

/** Calls `draw` in a frame at most every `milliseconds`, however often it is asked to. */
export function seldom(milliseconds, draw) {
  let asked = false;
  let last = -Infinity;
  const frame = (now) => {
    if (now - last < milliseconds) return requestAnimationFrame(frame);
    asked = false;
    last = now;
    draw();
  };
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(frame);
  };
}
