/** Numbers in an array of any kind: typed arrays and plain ones. */
type Numbers = ArrayLike<number>;

/**
 * Passes where |actual - expected| <= atol + rtol·|expected| for every element. NaN equals NaN only,
 * +Inf equals +Inf only. The message names the largest error, its index and both values.
 */
export function assertClose(
  actual: Numbers,
  expected: Numbers,
  { atol = 0, rtol = 0, name = "values" }: { atol?: number; rtol?: number; name?: string } = {},
): void {
  assertSameLength(actual, expected, name);
  let wrong = 0;
  let worst = -1;
  let index = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] ?? Number.NaN;
    const b = expected[i] ?? Number.NaN;
    if (Object.is(a, b) || a === b) continue;
    const difference = Math.abs(a - b);
    if (Number.isFinite(b) && difference <= atol + rtol * Math.abs(b)) continue;
    wrong++;
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worst) {
      worst = error;
      index = i;
    }
  }
  if (wrong === 0) return;
  throw new Error(
    `${name}: ${wrong} of ${expected.length} values differ; max error ${worst} at [${index}]: ` +
      `${actual[index]}, expected ${expected[index]} (atol ${atol}, rtol ${rtol})`,
  );
}

const float = new Float32Array(1);
const bits = new Int32Array(float.buffer);

/** Position of an f32 among all f32 in order: neighbours differ by 1, and -0 and +0 share 0. */
function rank(value: number): number {
  float[0] = value;
  const word = bits[0] ?? 0;
  return word < 0 ? -(word & 0x7fffffff) : word;
}

/** How many f32 steps lie between two numbers rounded to f32. 0 for two NaN, Infinity for one. */
export function ulps(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) {
    return Number.isNaN(a) && Number.isNaN(b) ? 0 : Number.POSITIVE_INFINITY;
  }
  return Math.abs(rank(a) - rank(b));
}

/** Passes where two arrays hold the same bytes: -0 is not +0, and NaN payloads count. */
export function assertBitEqual(actual: ArrayBufferView, expected: ArrayBufferView, name = "values"): void {
  if (actual.byteLength !== expected.byteLength) {
    throw new Error(`${name}: ${actual.byteLength} bytes, expected ${expected.byteLength}`);
  }
  const a = new Uint8Array(actual.buffer, actual.byteOffset, actual.byteLength);
  const b = new Uint8Array(expected.buffer, expected.byteOffset, expected.byteLength);
  const first = b.findIndex((byte, i) => byte !== a[i]);
  if (first === -1) return;
  const unit = "BYTES_PER_ELEMENT" in expected ? Number(expected.BYTES_PER_ELEMENT) : 1;
  const index = Math.floor(first / unit);
  throw new Error(
    `${name}: bits differ first at [${index}]: ${element(actual, index, unit)}, ` +
      `expected ${element(expected, index, unit)}`,
  );
}

function element(view: ArrayBufferView, index: number, unit: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + index * unit, unit);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).reverse();
  const value = ArrayBuffer.isView(view) && index in view ? Reflect.get(view, index) : "";
  return `${value} (0x${hex.join("")})`;
}

export function assertSameLength(actual: Numbers, expected: Numbers, name: string): void {
  if (actual.length !== expected.length) {
    throw new Error(`${name}: ${actual.length} values, expected ${expected.length}`);
  }
}
