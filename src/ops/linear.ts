import { type GpuArray, rowsOf, showShape, sizeOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type Activation, arrayForZ, checkActivation, throughActivation } from "./activation.ts";
import { defineOp } from "./define-op.ts";
import { gemm } from "./gemm.ts";
import { sumMiddle } from "./reduce.ts";

export interface LinearAttrs {
  /** Applied to the result in the kernel of the product. */
  readonly activation?: Activation | undefined;
}

interface LinearSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray | null;
  readonly weight: GpuArray | null;
  readonly kept: GpuArray | null;
  readonly out: number;
  readonly in: number;
}

/**
 * y = f(x weightᵀ + bias), f an activation or none: x [..., in], weight [out, in], bias [out] or none -> [..., out].
 * Saves x only for a trained weight, weight only where x needs a gradient: a frozen layer keeps no activation. With an
 * f also y, or for gelu, geluTanh and silu what f is applied to, which the same kernel writes.
 */
export const linear = defineOp<readonly [GpuArray, GpuArray, GpuArray | null], LinearAttrs, LinearSaved>({
  name: "linear",
  half: { inputs: [1], saved: ["weight"] },
  autocast: true,
  shape([x, weight, bias], { activation }) {
    checkActivation("linear", activation);
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
  forward(gpu, [x, weight, bias], { activation }, needs, shape) {
    const [needsX, needsWeight] = needs;
    const y = gpu.empty(shape);
    const z = arrayForZ(gpu, y, activation, needs.any);
    const [N, K] = weight.shape as [number, number];
    const M = sizeOf(shape.slice(0, -1));
    gemm(gpu, { a: x, b: weight, c: y, bias, activation, z, M, N, K, transposeB: true });
    const kept = activation ? (z ?? y) : null;
    return {
      output: y,
      saved: { x: needsWeight ? x : null, weight: needsX ? weight : null, kept, out: N, in: K },
    };
  },
  backward(gpu, dy, { x, weight, kept, out, in: inputs }, { activation }, [needsX, needsWeight, needsBias]) {
    const dz = throughActivation(gpu, dy, kept, activation);
    const { rows } = rowsOf(dy.shape);
    let dx: GpuArray | null = null;
    if (weight && needsX) {
      dx = gpu.empty([...dy.shape.slice(0, -1), inputs]);
      gemm(gpu, { a: dz, b: weight, c: dx, M: rows, N: inputs, K: out });
    }
    let dweight: GpuArray | null = null;
    if (x && needsWeight) {
      dweight = gpu.emptyFor(1, [out, inputs]);
      gemm(gpu, { a: dz, b: x, c: dweight, M: out, N: inputs, K: rows, transposeA: true });
    }
    const dbias = needsBias ? gpu.emptyFor(2, [out]) : null;
    if (dbias) sumMiddle(gpu, dz, 1, rows, out, { into: dbias });
    return [dx, dweight, dbias];
  },
});
