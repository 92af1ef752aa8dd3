import { type GpuArray, rowsOf, showShape, sizeOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { gemm } from "./gemm.ts";
import { sumMiddle } from "./reduce.ts";

interface LinearSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray | null;
  readonly weight: GpuArray | null;
  readonly out: number;
  readonly in: number;
}

/**
 * y = x weightᵀ + bias: x [..., in], weight [out, in], bias [out] or none -> [..., out].
 * Saves x only for a trained weight, weight only where x needs a gradient: a frozen layer keeps no activation.
 */
export const linear = defineOp<readonly [GpuArray, GpuArray, GpuArray | null], object, LinearSaved>({
  name: "linear",
  autocast: true,
  shape([x, weight, bias]) {
    if (weight.length !== 2 || x.length < 1 || x.at(-1) !== weight[1]) {
      throw new ShapeError(`linear: x ${showShape(x)} does not fit weight ${showShape(weight)} [out, in]`);
    }
    if (bias && (bias.length !== 1 || bias[0] !== weight[0])) {
      throw new ShapeError(
        `linear: bias ${showShape(bias)} does not fit weight ${showShape(weight)} [out, in]`,
      );
    }
    return [...x.slice(0, -1), weight[0] as number];
  },
  forward(gpu, [x, weight, bias], _attrs, [needsX, needsWeight], shape) {
    const y = gpu.empty(shape);
    const [N, K] = weight.shape as [number, number];
    gemm(gpu, { a: x, b: weight, c: y, bias, M: sizeOf(shape) / N, N, K, transposeB: true });
    return { output: y, saved: { x: needsWeight ? x : null, weight: needsX ? weight : null, out: N, in: K } };
  },
  backward(gpu, dy, { x, weight, out, in: inputs }, _attrs, [, , needsBias]) {
    const { rows } = rowsOf(dy.shape);
    let dx: GpuArray | null = null;
    if (weight) {
      dx = gpu.empty([...dy.shape.slice(0, -1), inputs]);
      gemm(gpu, { a: dy, b: weight, c: dx, M: rows, N: inputs, K: out });
    }
    let dweight: GpuArray | null = null;
    if (x) {
      dweight = gpu.empty([out, inputs]);
      gemm(gpu, { a: dy, b: x, c: dweight, M: out, N: inputs, K: rows, transposeA: true });
    }
    const dbias = needsBias ? gpu.view(sumMiddle(gpu, dy, 1, rows, out), [out]) : null;
    return [dx, dweight, dbias];
  },
});
