import { add } from "./binary.ts";
import { permute } from "./layout.ts";
import { at, broadcastShape, indexMap, lengthOf, type RefTensor, ref, sizeOf } from "./tensor.ts";

export interface MatmulOptions {
  /** a is stored [..., K, M]. */
  readonly ta?: boolean | undefined;
  /** b is stored [..., N, K]. */
  readonly tb?: boolean | undefined;
  /** [N], or any shape that broadcasts to the result. */
  readonly bias?: RefTensor | null | undefined;
}

/** a [..., M, K] · b [..., K, N] + bias -> [..., M, N]; leading dimensions broadcast. */
export function matmul(
  a: RefTensor,
  b: RefTensor,
  { ta = false, tb = false, bias }: MatmulOptions = {},
): RefTensor {
  const left = ta ? transposed(a) : a; // [..., M, K]
  const right = tb ? b : transposed(b); // [..., N, K]
  const M = lengthOf(left.shape, -2);
  const K = lengthOf(left.shape, -1);
  const N = lengthOf(right.shape, -2);
  if (K !== lengthOf(right.shape, -1)) {
    throw new Error(`matmul: inner sizes differ, [${a.shape.join(", ")}] x [${b.shape.join(", ")}]`);
  }
  const leftBatch = left.shape.slice(0, -2);
  const rightBatch = right.shape.slice(0, -2);
  const batch = broadcastShape(leftBatch, rightBatch);
  const fromLeft = indexMap(batch, leftBatch);
  const fromRight = indexMap(batch, rightBatch);
  const out = ref([...batch, M, N]);
  for (let i = 0; i < sizeOf(batch); i++) {
    for (let m = 0; m < M; m++) {
      const row = (at(fromLeft, i) * M + m) * K;
      for (let n = 0; n < N; n++) {
        const column = (at(fromRight, i) * N + n) * K;
        out.data[(i * M + m) * N + n] = dot(left.data, row, right.data, column, K);
      }
    }
  }
  return bias ? add(out, bias) : out;
}

function dot(a: Float64Array, fromA: number, b: Float64Array, fromB: number, count: number): number {
  let sum = 0;
  // Indexed here and not through `at`: a load that always sees one kind of array is several times faster.
  for (let k = 0; k < count; k++) sum += (a[fromA + k] ?? Number.NaN) * (b[fromB + k] ?? Number.NaN);
  return sum;
}

function transposed(x: RefTensor): RefTensor {
  const order = [...x.shape.keys()];
  return permute(x, [...order.slice(0, -2), order.length - 1, order.length - 2]);
}

/** x [..., in] · wᵀ + bias -> [..., out], w [out, in]. */
export function linear(x: RefTensor, w: RefTensor, bias?: RefTensor | null): RefTensor {
  const rows = ref([sizeOf(x.shape.slice(0, -1)), lengthOf(x.shape, -1)], x.data);
  const y = matmul(rows, w, { tb: true, bias });
  return ref([...x.shape.slice(0, -1), lengthOf(w.shape, 0)], y.data);
}

/**
 * x [rows, in] -> [rows, out] with expert route[g] of weight [M, out, in] and bias [M, out] for group g.
 * The rows are split evenly into as many groups as the route has entries.
 */
export function bankLinear(
  x: RefTensor,
  weight: RefTensor,
  bias: RefTensor | null,
  route: ArrayLike<number>,
): RefTensor {
  const rows = lengthOf(x.shape, 0);
  const I = lengthOf(weight.shape, 2);
  const O = lengthOf(weight.shape, 1);
  const M = lengthOf(weight.shape, 0);
  const rowsPerGroup = rows / route.length;
  if (!Number.isInteger(rowsPerGroup)) {
    throw new Error(`bankLinear: ${rows} rows do not split into ${route.length} groups`);
  }
  const out = ref([rows, O]);
  for (let g = 0; g < route.length; g++) {
    const expert = at(route, g);
    if (!(expert >= 0 && expert < M)) throw new Error(`bankLinear: route[${g}] is ${expert} of ${M} experts`);
    const first = g * rowsPerGroup;
    const group = ref([rowsPerGroup, I], x.data.slice(first * I, (first + rowsPerGroup) * I));
    const w = ref([O, I], weight.data.slice(expert * O * I, (expert + 1) * O * I));
    const b = bias && ref([O], bias.data.slice(expert * O, (expert + 1) * O));
    out.data.set(linear(group, w, b).data, first * O);
  }
  return out;
}
