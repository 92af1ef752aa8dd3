import {
  broadcastShapes,
  broadcastStrides,
  type Gpu,
  type GpuArray,
  lastOf,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type Activation, arrayForZ, checkActivation, throughActivation } from "./activation.ts";
import { defineOp } from "./define-op.ts";
import { gemm, type Product } from "./gemm.ts";
import { contiguous } from "./kernels.ts";
import { sumMiddle, sumTo } from "./reduce.ts";

export interface MatmulAttrs {
  /** a is stored [..., K, M]. */
  readonly transposeA?: boolean | undefined;
  /** b is stored [..., N, K]. */
  readonly transposeB?: boolean | undefined;
  /** Applied to the result in the kernel of the product. */
  readonly activation?: Activation | undefined;
}

type Transposes = Pick<MatmulAttrs, "transposeA" | "transposeB">;
type Epilogue = Pick<Product, "bias" | "activation" | "z">;

interface Sizes {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch: Shape;
}

/** A vector on the left is a row. */
const leftMatrix = (a: Shape): Shape => (a.length === 1 ? [1, ...a] : a);
/** A vector on the right is a column. */
const rightMatrix = (b: Shape): Shape => (b.length === 1 ? [...b, 1] : b);

function asLeft(gpu: Gpu, a: GpuArray): GpuArray {
  return a.shape.length === 1 ? gpu.view(a, leftMatrix(a.shape)) : a;
}

function asRight(gpu: Gpu, b: GpuArray): GpuArray {
  return b.shape.length === 1 ? gpu.view(b, rightMatrix(b.shape)) : b;
}

function sizes(a: Shape, b: Shape, { transposeA, transposeB }: Transposes): Sizes {
  const [a0, a1] = leftMatrix(a).slice(-2) as [number, number];
  const [b0, b1] = rightMatrix(b).slice(-2) as [number, number];
  const [M, K] = transposeA ? [a1, a0] : [a0, a1];
  const [inner, N] = transposeB ? [b1, b0] : [b0, b1];
  if (K !== inner) {
    const marks = `${transposeA ? "ᵀ" : ""} x ${showShape(b)}${transposeB ? "ᵀ" : ""}`;
    throw new ShapeError(`matmul: inner sizes differ, ${showShape(a)}${marks} (${K} vs ${inner})`);
  }
  return { M, N, K, batch: broadcastShapes("matmul", a.slice(0, -2), b.slice(0, -2)) };
}

function checkRanks(a: Shape, b: Shape, { transposeA, transposeB }: Transposes): void {
  if (a.length === 0 || b.length === 0)
    throw new ShapeError(`matmul: ${showShape(a)} x ${showShape(b)}; a scalar is no matrix, use mul`);
  if ((transposeA && a.length === 1) || (transposeB && b.length === 1)) {
    const [name, shape] = transposeA && a.length === 1 ? ["A", a] : ["B", b];
    throw new ShapeError(`matmul: transpose${name} of the vector ${showShape(shape as Shape)}; leave it out`);
  }
}

/** Without the dimensions of 1 that vectors were given. */
function resultShape(a: Shape, b: Shape, { M, N, batch }: Sizes): Shape {
  return [...batch, ...(a.length === 1 ? [] : [M]), ...(b.length === 1 ? [] : [N])];
}

/** An operand with a full batch (stride) or one matrix for all (stride 0); other broadcasts are written out. */
function batched(gpu: Gpu, x: GpuArray, batch: Shape): { array: GpuArray; stride: number } {
  const matrix = x.shape.slice(-2);
  const own = x.shape.slice(0, -2);
  if (sizeOf(own) === 1) return { array: x, stride: 0 };
  if (sameShape(own, batch)) return { array: x, stride: sizeOf(matrix) };
  const shape = [...batch, ...matrix];
  const stretched = gpu.view(x, shape, x.offset, broadcastStrides(x.shape, x.strides, shape));
  return { array: contiguous(gpu, stretched), stride: sizeOf(matrix) };
}

/** f(op(a) op(b) + bias) over a batch of matrices into c [..., M, N]. */
function multiplyInto(
  gpu: Gpu,
  a: GpuArray,
  b: GpuArray,
  c: GpuArray,
  attrs: Transposes,
  epilogue: Epilogue = {},
): void {
  const { M, N, K, batch } = sizes(a.shape, b.shape, attrs);
  const flags = { transposeA: attrs.transposeA === true, transposeB: attrs.transposeB === true };
  const count = sizeOf(batch);
  if (count > 1 && !flags.transposeA && sizeOf(b.shape.slice(0, -2)) === 1) {
    // One b for all: the batch is only more rows.
    gemm(gpu, { a, b, c, M: count * M, N, K, ...flags, ...epilogue });
    return;
  }
  const left = batched(gpu, a, batch);
  const right = batched(gpu, b, batch);
  gemm(gpu, {
    a: left.array,
    b: right.array,
    c,
    M,
    N,
    K,
    batch: count,
    layoutA: { stride: left.stride },
    layoutB: { stride: right.stride },
    ...flags,
    ...epilogue,
  });
}

/** op(a) op(b) over a batch of matrices, without a tape. */
export function multiplyMatrices(gpu: Gpu, a: GpuArray, b: GpuArray, attrs: Transposes): GpuArray {
  const { M, N, batch } = sizes(a.shape, b.shape, attrs);
  const c = gpu.empty([...batch, M, N]);
  multiplyInto(gpu, a, b, c, attrs);
  return c;
}

/** op(a) op(b) of two matrices as the gradient of the op's input `i`. */
function multiplyFor(gpu: Gpu, i: number, a: GpuArray, b: GpuArray, attrs: Transposes): GpuArray {
  const { M, N } = sizes(a.shape, b.shape, attrs);
  const c = gpu.emptyFor(i, [M, N]);
  multiplyInto(gpu, a, b, c, attrs);
  return c;
}

interface MatmulSaved {
  readonly [name: string]: unknown;
  readonly a: GpuArray | null;
  readonly b: GpuArray | null;
  readonly kept: GpuArray | null;
  readonly shapeA: Shape;
  readonly shapeB: Shape;
}

/**
 * y = f(op(a) op(b) + bias), op transposing where asked, f an activation or none: a [..., M, K], b [..., K, N],
 * bias [N] or none -> [..., M, N]. Leading dimensions broadcast. A vector a [K] is a row and a vector b [K] a column,
 * and the result has no dimension for it, as in PyTorch: [K] x [K] -> []. K = 0 gives f(bias).
 * Saves a for db and b for da; with an f also y, or for gelu, geluTanh and silu what f is applied to.
 */
export const matmul = defineOp<
  readonly [a: GpuArray, b: GpuArray, bias: GpuArray | null],
  MatmulAttrs,
  MatmulSaved
>({
  name: "matmul",
  half: { inputs: [1], saved: ["b"] },
  autocast: true,
  shape([a, b, bias], attrs) {
    checkActivation("matmul", attrs.activation);
    checkRanks(a, b, attrs);
    const all = sizes(a, b, attrs);
    if (bias && (b.length === 1 || !sameShape(bias, [all.N]))) {
      const wanted = b.length === 1 ? `a matrix b, not ${showShape(b)}` : `[${all.N}]`;
      throw new ShapeError(`matmul: bias ${showShape(bias)}, expected ${wanted}`);
    }
    return resultShape(a, b, all);
  },
  forward(gpu, [a, b, bias], attrs, needs, shape) {
    const [needsA, needsB] = needs;
    const { activation } = attrs;
    const y = gpu.empty(shape);
    const z = arrayForZ(gpu, y, activation, needs.any);
    if (b.shape.length === 1 && !attrs.transposeA) {
      // A column on the right is a row on the left of the transposed matrix, which lanes share.
      const K = b.size;
      gemm(gpu, { a: b, b: a, c: y, M: 1, N: y.size, K, transposeB: true, activation, z });
    } else {
      multiplyInto(gpu, asLeft(gpu, a), asRight(gpu, b), y, attrs, { bias, activation, z });
    }
    return {
      output: y,
      saved: {
        a: needsB ? a : null,
        b: needsA ? b : null,
        kept: activation ? (z ?? y) : null,
        shapeA: a.shape,
        shapeB: b.shape,
      },
    };
  },
  // da = dz bᵀ, db = aᵀ dz; for a transposed operand the product is written the other way round.
  backward(gpu, dy, saved, attrs, [needsA, needsB, needsBias]) {
    const { kept, shapeA, shapeB } = saved;
    const [a, b] = [saved.a && asLeft(gpu, saved.a), saved.b && asRight(gpu, saved.b)];
    const { transposeA = false, transposeB = false } = attrs;
    const { M, N, batch } = sizes(shapeA, shapeB, attrs);
    const dz = gpu.view(throughActivation(gpu, dy, kept, attrs.activation), [...batch, M, N]);
    const da =
      b &&
      needsA &&
      (transposeA
        ? multiplyMatrices(gpu, b, dz, { transposeA: transposeB, transposeB: true })
        : multiplyMatrices(gpu, dz, b, { transposeB: !transposeB }));
    const db = a && needsB && gradientOfB(gpu, a, dz, rightMatrix(shapeB), transposeA, transposeB);
    return [
      da ? gpu.view(sumTo(gpu, da, leftMatrix(shapeA)), shapeA) : null,
      db ? gpu.view(db, shapeB) : null,
      needsBias ? sumOfRows(gpu, dz, N, gpu.emptyFor(2, [N])) : null,
    ];
  },
});

function sumOfRows(gpu: Gpu, x: GpuArray, columns: number, into: GpuArray): GpuArray {
  return gpu.view(sumMiddle(gpu, x, 1, columns === 0 ? 0 : x.size / columns, columns, { into }), [columns]);
}

/** Input 1 of the op. */
function gradientOfB(
  gpu: Gpu,
  a: GpuArray,
  dy: GpuArray,
  shapeB: Shape,
  transposeA: boolean,
  transposeB: boolean,
): GpuArray {
  const sameRows =
    sizeOf(shapeB.slice(0, -2)) === 1 &&
    !transposeA &&
    sizeOf(a.shape.slice(0, -2)) === sizeOf(dy.shape.slice(0, -2));
  if (sameRows) {
    // One b for all: the batch joins the sum over rows.
    const rowsA = gpu.view(a, [sizeOf(a.shape.slice(0, -1)), lastOf(a.shape)]);
    const rowsY = gpu.view(dy, [sizeOf(dy.shape.slice(0, -1)), lastOf(dy.shape)]);
    const db = transposeB
      ? multiplyFor(gpu, 1, rowsY, rowsA, { transposeA: true })
      : multiplyFor(gpu, 1, rowsA, rowsY, { transposeA: true });
    return gpu.view(db, shapeB);
  }
  const db = transposeB
    ? multiplyMatrices(gpu, dy, a, { transposeA: true, transposeB: transposeA })
    : multiplyMatrices(gpu, a, dy, { transposeA: !transposeA });
  return sumTo(gpu, db, shapeB);
}
