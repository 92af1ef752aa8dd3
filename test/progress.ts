const EVERY_MS = 10_000;

/** Prints how far a long test is, every ten seconds at most: `report(done)` as often as one likes. */
export function progress(what: string, total: number): (done: number, more?: string) => void {
  const startedAt = performance.now();
  let printedAt = startedAt;
  return (done, more = "") => {
    const now = performance.now();
    if (now - printedAt < EVERY_MS) return;
    printedAt = now;
    const seconds = (now - startedAt) / 1000;
    const left = done > 0 ? `, ${((seconds / done) * (total - done)).toFixed(0)} s to go` : "";
    console.log(`  ${what}: ${done} of ${total} after ${seconds.toFixed(0)} s${left}${more && `, ${more}`}`);
  };
}
