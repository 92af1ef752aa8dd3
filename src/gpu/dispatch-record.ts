import type { Binding, BoundPart, DispatchNote } from "./dispatch.ts";
import type { Encode } from "./recorder.ts";

/** One dispatch that somebody looks on at. */
export interface DispatchRecord extends DispatchNote {
  /** Counted from 1 while somebody looks on. */
  readonly number: number;
}

/** When a dispatch ran, in milliseconds of a clock of the device's (or the host's) own. */
export interface DispatchTime {
  readonly startedMs: number;
  readonly endedMs: number;
  /** Whether it is the first of its submit: the gap before it is the host's. */
  readonly isFirst: boolean;
  /** What the clock itself adds: the round trip of an empty submit, where the host's is read. */
  readonly roundTripMs: number;
}

/** Finds out how long each dispatch takes. */
export interface DispatchTimer {
  /** Has the dispatch recorded in a way that it can be timed. `onTimed` is called later, in order. */
  dispatch(encode: Encode, onTimed: (time: DispatchTime) => void): void;
  submitting(encoder: GPUCommandEncoder): void;
  submitted(): void;
  /** Resolves when every dispatch submitted so far has been timed. */
  delivered(): Promise<void>;
  /** Resolves when every dispatch recorded so far has been timed. */
  settled(): Promise<void>;
  /** Settles, and gives back what it holds. */
  close(): Promise<void>;
}

/** One array of a dispatch. */
export interface BoundInfo {
  readonly name: string;
  readonly writes: boolean;
  readonly binding: Binding;
  /** As the op meant it: the strided part, where the kernel is handed a whole storage. */
  readonly part: BoundPart;
}

/** The arrays of a dispatch in the kernel's order, without dummies. */
export function boundArrays({ kernel, bindings, work }: DispatchRecord): BoundInfo[] {
  const found: BoundInfo[] = [];
  for (const { name, writes } of kernel.layout.bindings) {
    const binding = bindings[name];
    if (!binding?.array) continue;
    const { shape, dtype } = binding.array;
    const part = work?.parts?.[name] ?? { shape, dtype, offset: 0, strides: rowMajor(shape) };
    found.push({ name, writes, binding, part });
  }
  return found;
}

function rowMajor(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= shape[i] as number;
  }
  return strides;
}

/** "f32 [2, 3]" */
export function showArray({ shape, dtype }: { shape: readonly number[]; dtype: string }): string {
  return `${dtype} [${shape.join(", ")}]`;
}

/** "x f32 [2, 3], weight f32 [3] -> y f32 [2, 3]" */
export function showBound(record: DispatchRecord): string {
  const arrays = boundArrays(record);
  const list = (written: boolean): string =>
    arrays
      .filter(({ writes }) => writes === written)
      .map(({ name, part }) => `${name} ${showArray(part)}`)
      .join(", ");
  return `${list(false)} -> ${list(true)}`.trim();
}
