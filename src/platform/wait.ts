const SPIN_MS = 0.1;
const FIRST_SLEEP_MS = 0.2;
const LONGEST_SLEEP_MS = 1;

const cell = new Int32Array(new SharedArrayBuffer(4));

/**
 * Awaits a promise of the GPU. An ordinary await polls hot in Node and takes a core from a software driver's
 * threads. The polite wait spins for about 100 µs, so that short work stays quick, and then sleeps between
 * looks at the event loop, 0.2 ms at first and 1 ms at most.
 */
export async function settle<T>(promise: Promise<T>, polite: boolean): Promise<T> {
  if (!polite) return promise;
  const watched = { settled: false };
  const mark = () => {
    watched.settled = true;
  };
  promise.then(mark, mark);
  const spinUntil = performance.now() + SPIN_MS;
  do await nextTurn();
  while (!watched.settled && performance.now() < spinUntil);
  for (let sleepMs = FIRST_SLEEP_MS; !watched.settled; sleepMs = Math.min(sleepMs * 1.25, LONGEST_SLEEP_MS)) {
    Atomics.wait(cell, 0, 0, sleepMs);
    await nextTurn();
  }
  return promise;
}

/** Resolves after one turn of the event loop, in which Dawn looks for finished work. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}
