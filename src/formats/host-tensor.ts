// Small f32 tensors in host memory: what the tensors of an adapter are while they go from one format to another.
import { FormatError, type RawTensor, type TensorToWrite, toFloat32 } from "../io/index.ts";

/** Row-major f32 values. Never written to once made. */
export interface HostTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export type HostTensors = ReadonlyMap<string, HostTensor>;

/** The values of a file's tensor, widened or rounded to f32. */
export function hostTensor(tensor: RawTensor): HostTensor {
  return { shape: tensor.shape, data: toFloat32(tensor) };
}

/** Ready for encodeSafetensors. */
export function toWrite(tensors: HostTensors): [string, TensorToWrite][] {
  return [...tensors].map(([name, { shape, data }]) => [name, { dtype: "F32", shape, data }]);
}

/** As if they had been read from a file: ready for loadStateDict. */
export function asRaw(tensors: HostTensors): Map<string, RawTensor> {
  return new Map(
    [...tensors].map(([name, { shape, data }]) => {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return [name, { dtype: "F32", shape, bytes }];
    }),
  );
}

/** The number of elements of all. */
export function elementsOf(tensors: Iterable<HostTensor>): number {
  let n = 0;
  for (const { data } of tensors) n += data.length;
  return n;
}

/** Slice `i` of the first dimension: [M, ...] -> [...]. */
export function sliceOf(x: HostTensor, i: number): HostTensor {
  const [n = 1, ...shape] = x.shape;
  const size = x.data.length / n;
  return { shape, data: x.data.subarray(i * size, (i + 1) * size) };
}

/** Tensors of one shape behind one another: M of [...] -> [M, ...]. */
export function stacked(parts: readonly HostTensor[]): HostTensor {
  const shape = parts[0]?.shape ?? [];
  const size = parts[0]?.data.length ?? 0;
  const data = new Float32Array(parts.length * size);
  for (const [i, part] of parts.entries()) {
    if (part.data.length !== size)
      throw new FormatError(`formats: [${part.shape.join(", ")}] beside [${shape.join(", ")}] of one bank`);
    data.set(part.data, i * size);
  }
  return { shape: [parts.length, ...shape], data };
}

/** Rows `start` to `end` of a matrix. */
export function rowsOf({ shape, data }: HostTensor, start: number, end: number): HostTensor {
  const columns = shape[1] ?? 1;
  return { shape: [end - start, ...shape.slice(1)], data: data.subarray(start * columns, end * columns) };
}

/** Some columns of a matrix, in the order given. */
export function columnsOf({ shape, data }: HostTensor, columns: readonly number[]): HostTensor {
  const [n = 0, width = 0] = shape;
  const result = new Float32Array(n * columns.length);
  for (let row = 0; row < n; row++)
    for (const [i, column] of columns.entries())
      result[row * columns.length + i] = data[row * width + column] ?? 0;
  return { shape: [n, columns.length], data: result };
}

/** A matrix (or vector) in the upper left corner of one of zeros. */
export function padded(x: HostTensor, shape: readonly number[]): HostTensor {
  if (x.shape.every((n, i) => n === shape[i])) return x;
  const result = zeros(shape);
  place(result, x, 0, 0);
  return result;
}

export function zeros(shape: readonly number[]): {
  readonly shape: readonly number[];
  readonly data: Float32Array;
} {
  return { shape, data: new Float32Array(shape.reduce((n, size) => n * size, 1)) };
}

/** Writes a matrix (or vector) into a larger one that is being made, its corner at (row, column). */
export function place(target: HostTensor, x: HostTensor, row: number, column: number): void {
  const isVector = x.shape.length < 2;
  const [rows, columns] = isVector ? [1, x.data.length] : [x.shape[0] ?? 0, x.shape[1] ?? 0];
  const width = isVector ? target.data.length : (target.shape[1] ?? 0);
  for (let i = 0; i < rows; i++)
    target.data.set(x.data.subarray(i * columns, (i + 1) * columns), (row + i) * width + column);
}

/** x times a number, rounded to f32. */
export function times(x: HostTensor, factor: number): HostTensor {
  return factor === 1 ? x : { shape: x.shape, data: x.data.map((value) => value * factor) };
}

/** Σ weights[j] x_j over the first dimension, which is kept: [M, ...] -> [1, ...]. Summed in float64. */
export function weightedMean({ shape, data }: HostTensor, weights: readonly number[]): HostTensor {
  const [n = 1, ...rest] = shape;
  const size = data.length / n;
  const result = new Float32Array(size);
  for (let i = 0; i < size; i++) {
    let sum = 0;
    for (let j = 0; j < n; j++) sum += (weights[j] ?? 0) * (data[j * size + i] ?? 0);
    result[i] = sum;
  }
  return { shape: [1, ...rest], data: result };
}

export function isZero({ data }: HostTensor): boolean {
  return data.every((value) => value === 0);
}
