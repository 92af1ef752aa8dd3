// What is timed on a GPU, beside its own ceilings: a large copy and large products. Sizes of a step of RoBERTa-large with
// 64 texts of 128 tokens; `small` ones run anywhere, and say nothing.
import {
  attention,
  crossEntropy,
  embedding,
  type Gpu,
  gelu,
  layerNorm,
  linear,
  matmul,
  noGrad,
  softmax,
  type Tensor,
} from "../../src/index.ts";
import { forward, forwardAndBackward, ids, normal, products, traffic } from "../cases.ts";
import { adamwCase } from "../kernels.ts";
import type { Case } from "../measure.ts";

export interface GpuSizes {
  /** Of the square product and of the copy: the ceilings. */
  readonly square: number;
  readonly copied: number;
  readonly rows: number;
  readonly channels: number;
  readonly inner: number;
  readonly heads: number;
  readonly tokens: number;
  readonly vocabulary: number;
  readonly parameters: number;
}

export const SIZES: Readonly<Record<"full" | "small", GpuSizes>> = {
  full: {
    square: 4096,
    copied: 2 ** 26,
    rows: 8192,
    channels: 1024,
    inner: 4096,
    heads: 16,
    tokens: 128,
    vocabulary: 50_257,
    parameters: 2 ** 24,
  },
  small: {
    square: 128,
    copied: 2 ** 16,
    rows: 128,
    channels: 64,
    inner: 256,
    heads: 2,
    tokens: 32,
    vocabulary: 1001,
    parameters: 2 ** 14,
  },
};

/** What the others are shares of. */
export function ceilingCases({ square, copied }: GpuSizes): Case[] {
  const inputs = (gpu: Gpu): Tensor[] => [
    normal(gpu, "a", [square, square]),
    normal(gpu, "b", [square, square]),
  ];
  return [
    forward(
      "copy",
      traffic(2, copied),
      (gpu) => [normal(gpu, "x", [copied])],
      ([x]) => (x as Tensor).mul(1),
    ),
    forward(`product ${square}³ f32`, products(1, square, square, square), inputs, ([a, b]) =>
      matmul(a as Tensor, b as Tensor),
    ),
    halfCase(`product ${square}³ f16`, [square, square, square], "nt"),
  ];
}

/** A product with a weight that is stored in f16. */
function halfCase(name: string, [M, K, N]: readonly [number, number, number], form: "nn" | "nt"): Case {
  const isTransposed = form === "nt";
  return forward(
    name,
    products(1, M, K, N),
    (gpu) => {
      const weight = normal(gpu, "weight", isTransposed ? [N, K] : [K, N]);
      const half = noGrad(() => weight.to("f16"));
      weight.dispose();
      return [normal(gpu, "x", [M, K]), half];
    },
    ([x, weight]) => matmul(x as Tensor, weight as Tensor, { transposeB: isTransposed }),
  );
}

export function gpuKernelCases(sizes: GpuSizes): Case[] {
  return [
    ...productCases(sizes),
    ...rowCases(sizes),
    ...attentionCases(sizes),
    ...tokenCases(sizes),
    ...lossCases(sizes),
    adamwCase(`AdamW ${sizes.parameters} parameters`, sizes.parameters),
  ];
}

function productCases({ rows, channels: C, inner }: GpuSizes): Case[] {
  const shapes = [
    [rows, C, C],
    [rows, C, inner],
    [rows, inner, C],
  ] as const;
  const ranks = [8, 16, 32] as const; // narrow tiles
  return [
    ...shapes.flatMap((shape) => [
      productCase("nt", shape), // a linear layer
      productCase("nn", shape), // its dx
      productCase("tn", shape), // its weight's gradient
      halfCase(`nt ${shape.join("x")}, weight f16`, shape, "nt"),
      halfCase(`nn ${shape.join("x")}, weight f16`, shape, "nn"),
    ]),
    ...ranks.flatMap((rank) => [
      productCase("nt", [rows, C, rank]),
      productCase("nt", [rows, rank, C]),
      productCase("tn", [rank, rows, C]), // the gradients of both weights: sums in parts
      productCase("tn", [C, rows, rank]),
    ]),
    forward(
      `linear + gelu ${rows}x${C}x${inner}`,
      products(1, rows, C, inner),
      (gpu) => [normal(gpu, "x", [rows, C]), normal(gpu, "weight", [inner, C]), normal(gpu, "bias", [inner])],
      ([x, weight, bias]) => linear(x as Tensor, weight as Tensor, bias as Tensor, { activation: "gelu" }),
    ),
  ];
}

function productCase(form: "nn" | "nt" | "tn", shape: readonly [M: number, K: number, N: number]): Case {
  const [M, K, N] = shape;
  return forward(
    `${form} ${shape.join("x")}`,
    products(1, M, K, N),
    (gpu) => [
      normal(gpu, "a", form === "tn" ? [K, M] : [M, K]),
      normal(gpu, "b", form === "nt" ? [N, K] : [K, N]),
    ],
    ([a, b]) => matmul(a as Tensor, b as Tensor, { transposeA: form === "tn", transposeB: form === "nt" }),
  );
}

function rowCases({ rows, channels: C, inner }: GpuSizes): Case[] {
  const x = (gpu: Gpu, columns = C): Tensor => normal(gpu, "x", [rows, columns]);
  return [
    forwardAndBackward(
      `layerNorm fwd+bwd ${rows}x${C}`,
      traffic(7, rows, C),
      (gpu) => [x(gpu), normal(gpu, "weight", [C]), normal(gpu, "bias", [C])],
      ([input, weight, bias]) => layerNorm(input as Tensor, weight as Tensor, bias as Tensor),
      3,
    ),
    forwardAndBackward(
      `softmax fwd+bwd ${rows}x${C}`,
      traffic(5, rows, C),
      (gpu) => [x(gpu)],
      ([input]) => softmax(input as Tensor),
      1,
    ),
    forwardAndBackward(
      `gelu fwd+bwd ${rows}x${inner}`,
      traffic(5, rows, inner),
      (gpu) => [x(gpu, inner)],
      ([input]) => gelu(input as Tensor),
      1,
    ),
  ];
}

/** Of a step, of long texts, causal and not, and of larger heads: forward, and with backward. */
function attentionCases({ rows, channels: C, heads, tokens }: GpuSizes): Case[] {
  const long = Math.min(8 * tokens, rows);
  const kinds = [
    { length: tokens, heads, causal: false },
    { length: long, heads, causal: false },
    { length: long, heads, causal: true },
    { length: long, heads: heads / 2, causal: false },
  ];
  return kinds.flatMap(({ length, ...options }) => {
    const batch = rows / length;
    const share = options.causal ? 0.5 : 1; // of the products, as many as queries see of keys
    const name = `${batch}x${length}, ${options.heads} heads of ${C / options.heads}${options.causal ? ", causal" : ""}`;
    const inputs = (gpu: Gpu): Tensor[] =>
      ["q", "k", "v"].map((each) => normal(gpu, each, [batch, length, C]));
    const compute = ([q, k, v]: readonly Tensor[]): Tensor =>
      attention(q as Tensor, k as Tensor, v as Tensor, null, options);
    return [
      forward(`attention fwd ${name}`, products(2 * share, rows, C, length), inputs, compute),
      // Two products forward; five backward, one of them computed again.
      forwardAndBackward(
        `attention fwd+bwd ${name}`,
        products(7 * share, rows, C, length),
        inputs,
        compute,
        3,
      ),
    ];
  });
}

/** A token of each text after a cache: keys and values are read once, as by a copy. One text, and as many as heads fill. */
function tokenCases({ rows, channels: C, heads }: GpuSizes): Case[] {
  const length = rows / 2;
  return [1, 8].map((batch) =>
    forward(
      `attention fwd of a token, ${batch}x${length} keys, ${heads} heads of ${C / heads}`,
      traffic(2, batch * length, C),
      (gpu) => [
        normal(gpu, "q", [batch, 1, C]),
        ...["k", "v"].map((each) => normal(gpu, each, [batch, length, C])),
      ],
      ([q, k, v]) => attention(q as Tensor, k as Tensor, v as Tensor, null, { heads, causal: true }),
    ),
  );
}

function lossCases({ rows, channels: C, vocabulary }: GpuSizes): Case[] {
  const some = Math.ceil(rows / 4);
  return [
    forwardAndBackward(
      `crossEntropy fwd+bwd ${some}x${vocabulary}`,
      traffic(3, some, vocabulary),
      (gpu) => [normal(gpu, "logits", [some, vocabulary]), ids(gpu, some, vocabulary)],
      ([logits, labels]) => crossEntropy(logits as Tensor, labels as Tensor),
      1,
    ),
    forwardAndBackward(
      `embedding fwd+bwd ${rows}x${C} of ${vocabulary} rows`,
      traffic(1, 3 * rows + vocabulary, C),
      (gpu) => [normal(gpu, "table", [vocabulary, C]), ids(gpu, rows, vocabulary)],
      ([table, tokens]) => embedding(table as Tensor, tokens as Tensor),
      1,
    ),
  ];
}
