// The works that every engine does, and their data: written once, read by all.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Shape, Stream } from "../../src/index.ts";
import { COMMON, type CommonStep, commonShapes } from "../common-step.ts";

/** How a tensor is filled: normal numbers of this deviation, one value throughout, or whole numbers below a limit. */
type Fill = { readonly std: number } | { readonly value: number } | { readonly below: number };

interface TensorSpec {
  readonly name: string;
  readonly shape: Shape;
  readonly fill: Fill;
}

export interface Work {
  readonly name: string;
  readonly kind: "step" | "matmul" | "layerNorm" | "softmax" | "gelu";
  /** Sizes and settings beside the tensors. */
  readonly settings: Readonly<Record<string, number | boolean>>;
  readonly tensors: readonly TensorSpec[];
  /** How often a peer does it before it is timed, and tells what it found. */
  readonly rehearsals: number;
  /** What doing it once amounts to, in units of 1e9 operations, or tokens. */
  readonly amount: number;
  readonly unit: "GFLOP/s" | "GB/s" | "tokens/s";
}

/** The training step; see common-step.ts. */
export function stepWork(common: CommonStep): Work {
  const { batch, tokens, vocabulary } = common;
  const fillOf = (name: string, { length }: Shape): Fill => {
    if (length > 1) return { std: 0.02 };
    return { value: name.endsWith(".bias") ? 0 : 1 };
  };
  const parameters = [...commonShapes(common)].map(([name, shape]) => ({
    name,
    shape,
    fill: fillOf(name, shape),
  }));
  const tokensOf = (name: string): TensorSpec => ({
    name,
    shape: [batch, tokens],
    fill: { below: vocabulary },
  });
  return {
    name: "step",
    kind: "step",
    settings: { ...common },
    tensors: [...parameters, tokensOf("ids"), tokensOf("labels")],
    rehearsals: 3,
    amount: batch * tokens,
    unit: "tokens/s",
  };
}

function matmulWork(form: "nn" | "nt" | "tn", [M, K, N]: readonly [number, number, number]): Work {
  const size = M === K && K === N ? `${M}` : `${M}x${K}x${N}`;
  return {
    name: `matmul-${form}-${size}`,
    kind: "matmul",
    settings: { transposeA: form === "tn", transposeB: form === "nt" },
    tensors: [
      { name: "a", shape: form === "tn" ? [K, M] : [M, K], fill: { std: 1 } },
      { name: "b", shape: form === "nt" ? [N, K] : [K, N], fill: { std: 1 } },
    ],
    rehearsals: 1,
    amount: (2 * M * K * N) / 1e9,
    unit: "GFLOP/s",
  };
}

const [ROWS, CHANNELS] = [4096, 1024];

/** Work over rows; `times`: how often one kernel for each pass reads or writes [ROWS, CHANNELS]. */
function rowWork(kind: Work["kind"], times: number, tensors: readonly TensorSpec[]): Work {
  return {
    name: kind,
    kind,
    settings: { eps: COMMON.eps },
    tensors: [{ name: "x", shape: [ROWS, CHANNELS], fill: { std: 1 } }, ...tensors],
    rehearsals: 1,
    amount: (4 * times * ROWS * CHANNELS) / 1e9,
    unit: "GB/s",
  };
}

export function works(): Work[] {
  const shapes = [
    [512, 512, 512],
    [1024, 1024, 1024],
    [1024, 768, 3072],
  ] as const;
  const forms = ["nn", "nt", "tn"] as const;
  const dy: TensorSpec = { name: "dy", shape: [ROWS, CHANNELS], fill: { std: 1 } };
  const vector = (name: string, std: number): TensorSpec => ({ name, shape: [CHANNELS], fill: { std } });
  return [
    stepWork(COMMON),
    ...shapes.flatMap((shape) => forms.map((form) => matmulWork(form, shape))),
    rowWork("layerNorm", 7, [vector("weight", 1), vector("bias", 1), dy]),
    rowWork("softmax", 5, [dy]),
    rowWork("gelu", 2, []),
  ];
}

/** Writes `manifest.json` (what is done, where each tensor begins) and `tensors.bin` (f32 and i32, one after another). */
export function writeWork(work: Work, folder: string): void {
  mkdirSync(folder, { recursive: true });
  const stream = Stream.seed(1).fold(work.name);
  const arrays = work.tensors.map(({ name, shape, fill }) => filled(shape, fill, stream.fold(name)));
  let offset = 0;
  const tensors = work.tensors.map(({ name, shape, fill }, i) => {
    const dtype = "below" in fill ? "i32" : "f32";
    const entry = { name, shape, dtype, offset };
    offset += arrays[i]?.byteLength ?? 0;
    return entry;
  });
  const bytes = Buffer.concat(arrays.map((array) => Buffer.from(array.buffer)));
  writeFileSync(join(folder, "tensors.bin"), bytes);
  const { name, kind, settings, rehearsals } = work;
  writeFileSync(join(folder, "manifest.json"), JSON.stringify({ name, kind, settings, rehearsals, tensors }));
}

function filled(
  shape: Shape,
  fill: Fill,
  stream: Stream,
): Float32Array<ArrayBuffer> | Int32Array<ArrayBuffer> {
  const size = shape.reduce((product, n) => product * n, 1);
  if ("std" in fill) return stream.normal(size, 0, fill.std);
  if ("value" in fill) return new Float32Array(size).fill(fill.value);
  return Int32Array.from({ length: size }, (_, i) => stream.integer(fill.below, i));
}
