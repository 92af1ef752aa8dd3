import { type GpuArray, type Shape, showShape, sizeOf } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { gemm } from "./gemm.ts";

type BankInputs = readonly [x: GpuArray, weight: GpuArray, bias: GpuArray | null, route: GpuArray];

interface BankSaved {
  readonly [name: string]: unknown;
  readonly x: GpuArray | null;
  readonly weight: GpuArray | null;
  readonly route: GpuArray;
  readonly bank: Shape;
}

export interface BankAttrs {
  /** Factor of the product (LoRA's alpha / r). Default 1. */
  readonly scale?: number | undefined;
}

/**
 * A linear layer out of a bank of M experts: rows of group g go through expert route[g].
 * y = scale x weight[route[g]]ᵀ + bias[route[g]]: x [..., in] of G equal groups of rows, weight [M, out, in],
 * bias [M, out] or none, route [G] i32 -> [..., out]. G divides the rows: 1 group is the whole batch, one per
 * example or one per row are finer. The weight gradient of each expert is summed in a fixed order.
 * Paper: section 3.1 (stochastic routing). Route values are checked where they are drawn.
 */
export const bankLinear = defineOp<BankInputs, BankAttrs, BankSaved>({
  name: "bankLinear",
  half: { inputs: [1], saved: ["weight"] },
  autocast: true,
  dtypes: ["f32", "f32", "f32", "i32"],
  shape([x, weight, bias, route]) {
    const [M, out, inputs] = weight;
    if (weight.length !== 3 || x.length < 1 || x.at(-1) !== inputs) {
      throw new ShapeError(
        `bankLinear: x ${showShape(x)} does not fit weight ${showShape(weight)} [experts, out, in]`,
      );
    }
    if (bias && !(bias.length === 2 && bias[0] === M && bias[1] === out)) {
      throw new ShapeError(
        `bankLinear: bias ${showShape(bias)} does not fit weight ${showShape(weight)} [experts, out, in]`,
      );
    }
    const rows = sizeOf(x.slice(0, -1));
    const groups = route[0] ?? 0;
    if (route.length !== 1 || groups === 0 || rows % groups !== 0) {
      throw new ShapeError(
        `bankLinear: route ${showShape(route)} does not divide the ${rows} rows of x ${showShape(x)}`,
      );
    }
    return [...x.slice(0, -1), out as number];
  },
  forward(gpu, [x, weight, bias, route], { scale = 1 }, [needsX, needsWeight], shape) {
    const y = gpu.empty(shape);
    const [, N, K] = weight.shape as [number, number, number];
    const groups = route.size;
    const M = sizeOf(shape.slice(0, -1)) / groups;
    const sizes = { M, N, K, batch: groups, layoutA: { stride: M * K }, layoutB: { stride: N * K } };
    gemm(gpu, { a: x, b: weight, c: y, bias, scale, transposeB: true, route, routing: "pick", ...sizes });
    return {
      output: y,
      saved: { x: needsWeight ? x : null, weight: needsX ? weight : null, route, bank: weight.shape },
    };
  },
  backward(gpu, dy, { x, weight, route, bank }, { scale = 1 }, [needsX, needsWeight, needsBias]) {
    const [experts, out, inputs] = bank as [number, number, number];
    const groups = route.size;
    const rows = sizeOf(dy.shape.slice(0, -1)) / groups;
    let dx: GpuArray | null = null;
    if (weight && needsX) {
      dx = gpu.empty([...dy.shape.slice(0, -1), inputs]);
      const sizes = {
        M: rows,
        N: inputs,
        K: out,
        batch: groups,
        layoutA: { stride: rows * out },
        layoutB: { stride: out * inputs },
      };
      gemm(gpu, { a: dy, b: weight, c: dx, scale, route, routing: "pick", ...sizes });
    }
    const collect = { transposeA: true, route, routing: "collect", K: rows, batch: experts } as const;
    let dweight: GpuArray | null = null;
    if (x && needsWeight) {
      dweight = gpu.emptyFor(1, bank);
      gemm(gpu, {
        a: dy,
        b: x,
        c: dweight,
        scale,
        M: out,
        N: inputs,
        layoutA: { stride: rows * out },
        layoutB: { stride: rows * inputs },
        ...collect,
      });
    }
    let dbias: GpuArray | null = null;
    if (needsBias) {
      // Σ over the rows of each expert: its product with a column of ones.
      dbias = gpu.emptyFor(2, [experts, out]);
      const ones = gpu.ones(rows);
      gemm(gpu, { a: ones, b: dy, c: dbias, M: 1, N: out, layoutB: { stride: rows * out }, ...collect });
    }
    return [dx, dweight, dbias, null];
  },
  touched: ({ route }) => route,
});
