import type { Binding } from "./dispatch.ts";
import { type BoundInfo, boundArrays, type DispatchRecord, showArray } from "./dispatch-record.ts";
import { GpuError } from "./errors.ts";
import type { KernelCache, KernelSpec } from "./kernel.ts";
import type { Pool, PoolBuffer } from "./pool.ts";
import type { Recorder } from "./recorder.ts";

const lookKernel: KernelSpec = { shader: "nonfinite", entry: "look" };

/** How elements lie in words, and which bits say that one is not finite. Types of whole numbers have none. */
const FLOATS: Readonly<Record<string, { in_word: number; exponent: number; fraction: number }>> = {
  f32: { in_word: 1, exponent: 0x7f800000, fraction: 0x007fffff },
  f16: { in_word: 2, exponent: 0x7c00, fraction: 0x03ff },
  bf16: { in_word: 2, exponent: 0x7f80, fraction: 0x007f },
};

const NONE = 0xffffffff;
/** struct Found of shaders/nonfinite.wgsl: check, first NaN, first infinity, padding, 8 inputs. */
const WORDS = 12;
const MOST_GROUPS = 256;

/** The check of one written array. */
interface Check {
  readonly record: DispatchRecord;
  readonly written: BoundInfo;
  /** The first check of the same dispatch, by which its inputs are known. */
  readonly first: number;
}

/**
 * Finds the first dispatch that writes NaN or infinity. Behind each dispatch it records a look at what was read and
 * at what was written; the first bad one stays in a buffer that is read with the next values that are read back.
 */
export class NanTracer {
  readonly #recorder: Recorder;
  readonly #kernels: KernelCache;
  readonly #pool: Pool;
  readonly #found: PoolBuffer;
  /** Checks that nothing has been heard of yet, by number. */
  readonly #checks = new Map<number, Check>();
  #next = 1;

  constructor(recorder: Recorder, kernels: KernelCache, pool: Pool) {
    this.#recorder = recorder;
    this.#kernels = kernels;
    this.#pool = pool;
    this.#found = pool.acquire(WORDS * 4);
    this.#forget();
  }

  /** Records the checks of a dispatch that has just been recorded. */
  check(record: DispatchRecord): void {
    const arrays = boundArrays(record).filter(({ part }) => part.dtype in FLOATS);
    if (!arrays.some(({ writes }) => writes)) return;
    const first = this.#next;
    // What was only read has not changed since the dispatch.
    arrays.forEach((input, place) => {
      if (!input.writes) this.#look(input, { check: first, is_input: 1, place });
    });
    for (const written of arrays) {
      if (!written.writes) continue;
      this.#checks.set(this.#next, { record, written, first });
      this.#look(written, { check: this.#next++, is_input: 0, place: 0 });
    }
  }

  /** Throws if a dispatch recorded so far has written a bad value. */
  async verify(): Promise<void> {
    const next = this.#next;
    const bytes = await this.#recorder.fetch(this.#found, 0, WORDS * 4);
    const [number = NONE, nan = NONE, infinity = NONE, , ...inputs] = new Uint32Array(bytes);
    const check = this.#checks.get(number);
    if (!check) {
      for (const known of this.#checks.keys()) if (known < next) this.#checks.delete(known);
      return;
    }
    this.#forget();
    throw new GpuError(describe(check, nan, infinity, inputs));
  }

  dispose(): void {
    this.#pool.release(this.#found);
  }

  #forget(): void {
    const words = new Uint32Array(WORDS);
    words.fill(NONE, 0, 3);
    this.#recorder.upload(this.#found, 0, words);
    this.#checks.clear();
  }

  #look({ binding, part }: BoundInfo, numbers: { check: number; is_input: number; place: number }): void {
    const { shape, strides, offset, dtype } = part;
    const n = shape.reduce((product, size) => product * size, 1);
    if (n === 0) return;
    const found: Binding = { buffer: this.#found, offset: 0, bytes: WORDS * 4 };
    const params = { n, rank: shape.length, offset, ...FLOATS[dtype], ...numbers, shape, strides };
    const groups = Math.min(Math.ceil(n / 64), MOST_GROUPS);
    this.#recorder.encode(this.#kernels.get(lookKernel), { x: binding, found }, params, [groups, 1, 1]);
  }
}

function describe(
  { record, written, first }: Check,
  nan: number,
  infinity: number,
  inputs: readonly number[],
): string {
  const { kernel, op, number } = record;
  const { name, part } = written;
  const what = nan < infinity ? "NaN" : "an infinity";
  const at = Math.min(nan, infinity);
  const arrays = boundArrays(record).filter(({ part }) => part.dtype in FLOATS);
  const bad = arrays.filter(({ writes }, place) => !writes && inputs[place] === first);
  const origin =
    bad.length === 0
      ? "what it only reads is finite"
      : `it already reads one in ${bad.map(({ name, part }) => `${name} ${showArray(part)}`).join(", ")}`;
  return (
    `trace: ${op ? `${op} (kernel ${kernel.label})` : `kernel ${kernel.label}`} is the first to write ${what}: ` +
    `${name} ${showArray(part)} at [${indexOf(at, part.shape).join(", ")}], dispatch ${number}; ${origin}`
  );
}

/** The place of an element in row-major order. */
function indexOf(element: number, shape: readonly number[]): number[] {
  const index: number[] = new Array(shape.length);
  let rest = element;
  for (let i = shape.length - 1; i >= 0; i--) {
    const size = shape[i] as number;
    index[i] = rest % size;
    rest = Math.floor(rest / size);
  }
  return index;
}
