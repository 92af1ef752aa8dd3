import {
  broadcastShapes,
  type Gpu,
  type GpuArray,
  type Shape,
  sameShape,
  showShape,
  sizeOf,
} from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { gemm } from "./gemm.ts";
import { contiguous } from "./kernels.ts";
import { sumTo } from "./reduce.ts";

export interface MatmulAttrs {
  /** a is stored [..., K, M]. */
  readonly transposeA?: boolean | undefined;
  /** b is stored [..., N, K]. */
  readonly transposeB?: boolean | undefined;
}

interface Sizes {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly batch: Shape;
}

function sizes(a: Shape, b: Shape, { transposeA, transposeB }: MatmulAttrs): Sizes {
  if (a.length < 2 || b.length < 2) {
    throw new ShapeError(`matmul: ${showShape(a)} x ${showShape(b)}; both need at least two dimensions`);
  }
  const [a0, a1] = a.slice(-2) as [number, number];
  const [b0, b1] = b.slice(-2) as [number, number];
  const [M, K] = transposeA ? [a1, a0] : [a0, a1];
  const [inner, N] = transposeB ? [b1, b0] : [b0, b1];
  if (K !== inner) {
    const marks = `${transposeA ? "ᵀ" : ""} x ${showShape(b)}${transposeB ? "ᵀ" : ""}`;
    throw new ShapeError(`matmul: inner sizes differ, ${showShape(a)}${marks} (${K} vs ${inner})`);
  }
  return { M, N, K, batch: broadcastShapes("matmul", a.slice(0, -2), b.slice(0, -2)) };
}

/** An operand with a full batch (stride) or one matrix for all (stride 0); other broadcasts are written out. */
function batched(gpu: Gpu, x: GpuArray, batch: Shape): { array: GpuArray; stride: number } {
  const matrix = x.shape.slice(-2);
  const own = x.shape.slice(0, -2);
  if (sizeOf(own) === 1) return { array: x, stride: 0 };
  if (sameShape(own, batch)) return { array: x, stride: sizeOf(matrix) };
  const lead = batch.length - own.length;
  const strides = batch.map((n, i) =>
    i < lead || (own[i - lead] === 1 && n !== 1) ? 0 : (x.strides[i - lead] as number),
  );
  const stretched = gpu.view(x, [...batch, ...matrix], x.offset, [...strides, ...x.strides.slice(-2)]);
  return { array: contiguous(gpu, stretched), stride: sizeOf(matrix) };
}

/** op(a) op(b) over a batch, without a tape. */
export function multiplyMatrices(gpu: Gpu, a: GpuArray, b: GpuArray, attrs: MatmulAttrs): GpuArray {
  const { M, N, K, batch } = sizes(a.shape, b.shape, attrs);
  const c = gpu.empty([...batch, M, N]);
  const flags = { transposeA: attrs.transposeA === true, transposeB: attrs.transposeB === true };
  const count = sizeOf(batch);
  if (count > 1 && !flags.transposeA && sizeOf(b.shape.slice(0, -2)) === 1) {
    // One b for all: the batch is only more rows.
    gemm(gpu, { a, b, c, M: count * M, N, K, ...flags });
    return c;
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
  });
  return c;
}

interface MatmulSaved {
  readonly [name: string]: unknown;
  readonly a: GpuArray | null;
  readonly b: GpuArray | null;
  readonly shapeA: Shape;
  readonly shapeB: Shape;
}

/**
 * y = op(a) op(b), op transposing where asked: a [..., M, K], b [..., K, N] -> [..., M, N]. Leading dimensions
 * broadcast. Saves a for db and b for da.
 */
export const matmul = defineOp<readonly [GpuArray, GpuArray], MatmulAttrs, MatmulSaved>({
  name: "matmul",
  autocast: true,
  shape([a, b], attrs) {
    const { M, N, batch } = sizes(a, b, attrs);
    return [...batch, M, N];
  },
  forward: (gpu, [a, b], attrs, [needsA, needsB]) => ({
    output: multiplyMatrices(gpu, a, b, attrs),
    saved: { a: needsB ? a : null, b: needsA ? b : null, shapeA: a.shape, shapeB: b.shape },
  }),
  // da = dy bᵀ, db = aᵀ dy; for a transposed operand the product is written the other way round.
  backward(gpu, dy, { a, b, shapeA, shapeB }, { transposeA = false, transposeB = false }) {
    const da =
      b &&
      (transposeA
        ? multiplyMatrices(gpu, b, dy, { transposeA: transposeB, transposeB: true })
        : multiplyMatrices(gpu, dy, b, { transposeB: !transposeB }));
    return [da && sumTo(gpu, da, shapeA), a && gradientOfB(gpu, a, dy, shapeB, transposeA, transposeB)];
  },
});

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
    const rowsA = gpu.view(a, [a.size / (a.shape.at(-1) as number), a.shape.at(-1) as number]);
    const rowsY = gpu.view(dy, [dy.size / (dy.shape.at(-1) as number), dy.shape.at(-1) as number]);
    const db = transposeB
      ? multiplyMatrices(gpu, rowsY, rowsA, { transposeA: true })
      : multiplyMatrices(gpu, rowsA, rowsY, { transposeA: true });
    return gpu.view(db, shapeB);
  }
  const db = transposeB
    ? multiplyMatrices(gpu, dy, a, { transposeA: true, transposeB: transposeA })
    : multiplyMatrices(gpu, a, dy, { transposeA: !transposeA });
  return sumTo(gpu, db, shapeB);
}
