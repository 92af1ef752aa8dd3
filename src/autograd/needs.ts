import type { Needs } from "../ops/index.ts";

/** Lists longer than this (a concat of many) are made each time. */
const MOST_KNOWN = 8;

/** By number of inputs, then by bits: ops share these objects. */
const known: Needs[][] = [];

/** Which of some inputs are needed, as ops are told it. */
export function needsOf<T>(inputs: readonly T[], isNeeded: (input: T) => boolean): Needs {
  const n = inputs.length;
  if (n > MOST_KNOWN) return withAny(inputs.map(isNeeded));
  let bits = 0;
  for (let i = 0; i < n; i++) if (isNeeded(inputs[i] as T)) bits |= 1 << i;
  let row = known[n];
  if (!row) {
    row = [];
    known[n] = row;
  }
  let needs = row[bits];
  if (!needs) {
    needs = withAny(Array.from({ length: n }, (_, i) => (bits & (1 << i)) !== 0));
    row[bits] = needs;
  }
  return needs;
}

function withAny(flags: boolean[]): Needs {
  return Object.assign(flags, { any: flags.includes(true) });
}
