import { type Gpu, type GpuArray, showShape } from "../array/index.ts";
import { GpuError, type Grid, grid1d, type KernelSpec, type ParamValue, type Work } from "../gpu/index.ts";
import { copyInto } from "./copy.ts";

/**
 * Kernels over arrays of several chunks. An array that one binding cannot hold is gone through in ranges of rows,
 * one dispatch for each, in which every array lies in one chunk. Chunks end where this works without a copy
 * (src/array/chunks.ts); where it does not, the range is staged: copied to memory that can be bound, and back.
 */

export type Arrays = Readonly<Record<string, GpuArray | null>>;
export type Params = Readonly<Record<string, ParamValue>>;

/** Arrays of equally many rows. */
export interface Rows {
  readonly rows: number;
  readonly arrays: Arrays;
  /** Elements of a row, where they are not size / rows: for rows of which the last one is shorter. */
  readonly lengths?: Readonly<Record<string, number>>;
  /** Rows of a range at most, where `body` makes arrays that grow with them. */
  readonly most?: number;
}

/** A dispatch that goes through rows. */
export interface RowRun {
  readonly rows: number;
  /** Arrays with so many rows, bound range by range. */
  readonly split: Arrays;
  readonly lengths?: Readonly<Record<string, number>>;
  /** Arrays that each range reads whole. */
  readonly whole?: Arrays;
  /** The parameters but for the number of rows; a function where they depend on the range. */
  readonly params: Params | ((first: number, rows: number) => Params);
  /** The parameter that takes the number of rows; null: none, `params` says it all. Default "rows". */
  readonly count?: string | null;
  /** Rows that the kernel counts as one: four for elements in groups of four. Default 1. */
  readonly group?: number;
  /** From the number of rows (in groups) and the first one. Default: a workgroup for each. */
  readonly grid?: (rows: number, first: number) => Grid;
  /** What a range of so many rows computes, for the profiler. */
  readonly work?: (rows: number) => Work;
}

/** Runs a kernel over rows: once, or once for each range where an array lies in several chunks. */
export function runRows(gpu: Gpu, kernel: KernelSpec, run: RowRun): void {
  const { rows, split, whole } = run;
  if (rows === 0) return;
  if (canBind(gpu, split)) {
    runRange(gpu, kernel, run, { ...split, ...whole }, 0, rows);
    return;
  }
  const written = writtenBy(gpu, kernel);
  const { lengths } = run;
  eachRange(
    gpu,
    labelOf(kernel),
    { rows, arrays: split, ...(lengths && { lengths }) },
    written,
    (parts, first, n) => runRange(gpu, kernel, run, { ...parts, ...whole }, first, n),
  );
}

/**
 * Runs a kernel with a thread for each four elements of arrays of one size; parameter `n` counts these groups. `perThread`:
 * groups that a thread takes, a workgroup's width apart.
 */
export function runFlat(
  gpu: Gpu,
  kernel: KernelSpec,
  split: Arrays,
  params: Params,
  whole?: Arrays,
  perThread = 1,
): void {
  runRows(gpu, kernel, {
    rows: sizeOfFirst(split),
    split,
    params,
    count: "n",
    group: 4,
    grid: (n) => threads(Math.ceil(n / perThread)),
    ...(whole && { whole }),
  });
}

/** The grid of a kernel with one thread for each of `n` elements. */
export function threads(n: number): Grid {
  return grid1d(Math.ceil(n / THREADS));
}

/** Threads of a workgroup in kernels with one thread per element. */
const THREADS = 64;

/**
 * Calls `body` for ranges of rows in which every array can be bound, with the parts of the arrays by name. Parts of
 * arrays that are `written` reach the arrays; `label` names the kernel in errors.
 */
export function eachRange(
  gpu: Gpu,
  label: string,
  rows: Rows,
  written: ReadonlySet<string>,
  body: (parts: Arrays, first: number, rows: number) => void,
): void {
  if (rows.rows === 0) return;
  const { most = rows.rows } = rows;
  if (most >= rows.rows && canBind(gpu, rows.arrays)) {
    body(rows.arrays, 0, rows.rows);
    return;
  }
  const operands = operandsOf(rows);
  for (const operand of operands) checkFits(gpu, label, operand);
  for (let first = 0, n = 0; first < rows.rows; first += n) {
    n = Math.min(rows.rows - first, most);
    for (const operand of operands) n = Math.min(n, reach(gpu, operand, first));
    gpu.scope(
      () => {
        const { parts, finish } = partsOf(gpu, operands, first, n, written);
        // The arrays that are null stay so.
        body({ ...rows.arrays, ...parts }, first, n);
        finish();
      },
      () => [],
    );
  }
}

/** Names of the arrays that a kernel writes. */
export function writtenBy(gpu: Gpu, kernel: KernelSpec): ReadonlySet<string> {
  const { bindings } = gpu.device.kernels.get(kernel).layout;
  return new Set(bindings.filter(({ writes }) => writes).map(({ name }) => name));
}

export function labelOf({ shader, entry }: KernelSpec): string {
  return `${shader}.${entry}`;
}

/** A contiguous array as a kernel can bind it: itself, or a copy where it crosses chunks or is not aligned. */
export function boundPart(gpu: Gpu, part: GpuArray): GpuArray {
  if (part.isBindable && part.isInOneChunk) return part;
  const copy = gpu.empty(part.shape, part.dtype);
  copyInto(gpu, part, copy);
  return copy;
}

interface Operand {
  readonly name: string;
  readonly array: GpuArray;
  /** Elements of a row. */
  readonly length: number;
}

/** Whether each array is bound at once. */
export function areInOneChunk(arrays: Arrays): boolean {
  for (const name in arrays) if (arrays[name]?.isInOneChunk === false) return false;
  return true;
}

/** Whether each array is bound at once, and begins where a binding may: parts of arrays need not. */
function canBind(gpu: Gpu, arrays: Arrays): boolean {
  const { alignment } = gpu.device.traits;
  for (const name in arrays) {
    const array = arrays[name];
    if (array && !(array.isInOneChunk && array.byteOffset % alignment === 0)) return false;
  }
  return true;
}

function sizeOfFirst(arrays: Arrays): number {
  for (const name in arrays) return arrays[name]?.size ?? 0;
  return 0;
}

function runRange(
  gpu: Gpu,
  kernel: KernelSpec,
  { params, count = "rows", group = 1, grid = grid1d, work }: RowRun,
  arrays: Arrays,
  first: number,
  rows: number,
): void {
  const n = group === 1 ? rows : Math.ceil(rows / group);
  const rest = typeof params === "function" ? params(first, rows) : params;
  gpu.run(kernel, arrays, count === null ? rest : { ...rest, [count]: n }, grid(n, first), work?.(rows));
}

function operandsOf({ rows, arrays, lengths = {} }: Rows): Operand[] {
  const operands: Operand[] = [];
  for (const [name, array] of Object.entries(arrays)) {
    if (array) operands.push({ name, array, length: lengths[name] ?? array.size / rows });
  }
  return operands;
}

function checkFits(gpu: Gpu, label: string, { name, array, length }: Operand): void {
  const bytes = length * array.itemBytes;
  if (bytes <= gpu.maxBindingBytes) return;
  throw new GpuError(
    `${label}: a row of ${name} ${showShape(array.shape)} takes ${bytes} bytes, and the largest binding here is ${gpu.maxBindingBytes} bytes`,
  );
}

/** Rows from `first` on that one dispatch can take, as far as this array goes: 1 or more. */
function reach(gpu: Gpu, { array, length }: Operand, first: number): number {
  if (length === 0) return Number.POSITIVE_INFINITY;
  const start = array.offset + first * length;
  const alignment = gpu.device.traits.alignment / array.itemBytes;
  if (start % alignment === 0) {
    const chunk = Math.floor(start / array.chunkLength);
    if (chunk === array.storage.chunkCount - 1) return Number.POSITIVE_INFINITY;
    return Math.max(Math.floor(((chunk + 1) * array.chunkLength - start) / length), 1);
  }
  // Staged, up to the next row that can be bound where it is.
  const most = Math.floor(gpu.maxBindingBytes / array.itemBytes / length);
  for (let n = 1; n < Math.min(most, alignment); n++) if ((start + n * length) % alignment === 0) return n;
  return most;
}

/** The parts of arrays in a range, and what brings those back that were copied and written. */
function partsOf(
  gpu: Gpu,
  operands: readonly Operand[],
  first: number,
  rows: number,
  written: ReadonlySet<string>,
): { readonly parts: Arrays; readonly finish: () => void } {
  const parts: Record<string, GpuArray> = {};
  const staged: (readonly [copy: GpuArray, place: GpuArray])[] = [];
  for (const { name, array, length } of operands) {
    const size = Math.min(rows * length, array.size - first * length);
    const place = gpu.view(array, [size], array.offset + first * length);
    const part = boundPart(gpu, place);
    parts[name] = part;
    if (part !== place && written.has(name)) staged.push([part, place]);
  }
  const finish = (): void => {
    for (const [copy, place] of staged) copyInto(gpu, copy, place);
  };
  return { parts, finish };
}
