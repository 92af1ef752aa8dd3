// Kernels that are no matrix products.
import {
  addLayerNorm,
  attention,
  crossEntropy,
  embedding,
  type Gpu,
  gelu,
  layerNorm,
  Parameter,
  softmax,
  type Tensor,
  tidy,
} from "../src/index.ts";
import { AdamW } from "../src/optim/index.ts";
import { forward, forwardAndBackward, ids, normal, stream, traffic } from "./cases.ts";
import type { Case } from "./measure.ts";

const [ROWS, CHANNELS] = [4096, 1024];

function rowCases(): Case[] {
  const rows = (gpu: Gpu): Tensor => normal(gpu, "x", [ROWS, CHANNELS]);
  const parts = (gpu: Gpu): Tensor[] => [
    rows(gpu),
    normal(gpu, "weight", [CHANNELS]),
    normal(gpu, "bias", [CHANNELS]),
  ];
  const norm = ([x, weight, bias]: readonly Tensor[]): Tensor =>
    layerNorm(x as Tensor, weight as Tensor, bias as Tensor);
  return [
    // Reads x, writes y; then x and dy to dx; then x and dy to the weights' gradients.
    forward("layerNorm fwd 4096x1024", traffic(2, ROWS, CHANNELS), parts, norm),
    forwardAndBackward("layerNorm fwd+bwd 4096x1024", traffic(7, ROWS, CHANNELS), parts, norm, 3),
    residualCase("addLayerNorm fwd+bwd 1024x768", 9, ([x, residual, weight, bias]) =>
      addLayerNorm(x as Tensor, residual as Tensor, weight as Tensor, bias as Tensor),
    ),
    residualCase("add, layerNorm fwd+bwd 1024x768", 10, ([x, residual, weight, bias]) =>
      layerNorm((x as Tensor).add(residual as Tensor), weight as Tensor, bias as Tensor),
    ),
    forwardAndBackward(
      "softmax fwd+bwd 4096x1024",
      traffic(5, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => softmax(x as Tensor),
      1,
    ),
    forward(
      "gelu fwd 4096x1024",
      traffic(2, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => gelu(x as Tensor),
    ),
    forwardAndBackward(
      "gelu fwd+bwd 4096x1024",
      traffic(5, ROWS, CHANNELS),
      (gpu) => [rows(gpu)],
      ([x]) => gelu(x as Tensor),
      1,
    ),
  ];
}

/** LayerNorm of a sum of two, forward and backward to all inputs; `times`: passes over an array of its shape. */
function residualCase(name: string, times: number, compute: (inputs: readonly Tensor[]) => Tensor): Case {
  const [rows, channels] = [1024, 768];
  return forwardAndBackward(
    name,
    traffic(times, rows, channels),
    (gpu) => [
      normal(gpu, "x", [rows, channels]),
      normal(gpu, "residual", [rows, channels]),
      normal(gpu, "weight", [channels]),
      normal(gpu, "bias", [channels]),
    ],
    compute,
    4,
  );
}

/** Of the common step's vocabulary and of GPT-2's. */
function lossCases(): Case[] {
  const shapes = [
    [1024, 4096],
    [256, 50_257],
  ] as const;
  return shapes.map(([rows, classes]) =>
    forwardAndBackward(
      `crossEntropy fwd+bwd ${rows}x${classes}`,
      traffic(3, rows, classes),
      (gpu) => [normal(gpu, "logits", [rows, classes]), ids(gpu, rows, classes)],
      ([logits, labels]) => crossEntropy(logits as Tensor, labels as Tensor),
      1,
    ),
  );
}

/**
 * Tokens, channels and rows of the table: the common step's, and GPT-2's. Rows are read and written, dy is read, and
 * the gradient of the whole table is written.
 */
function embeddingCases(): Case[] {
  const shapes = [
    [4096, 256, 4096],
    [1024, 768, 50_257],
  ] as const;
  return shapes.map(([tokens, channels, rows]) =>
    forwardAndBackward(
      `embedding fwd+bwd ${tokens}x${channels} of ${rows} rows`,
      traffic(1, 3 * tokens + rows, channels),
      (gpu) => [normal(gpu, "table", [rows, channels]), ids(gpu, tokens, rows)],
      ([table, tokenIds]) => embedding(table as Tensor, tokenIds as Tensor),
      1,
    ),
  );
}

/** Two products of T x T x D for each head forward, and five backward, one of them computed again. */
function attentionCases(): Case[] {
  const [batch, length, heads, size] = [8, 128, 4, 64];
  const product = (2 * batch * heads * length * length * size) / 1e9;
  const inputs = (gpu: Gpu): Tensor[] =>
    ["q", "k", "v"].map((name) => normal(gpu, name, [batch, length, heads * size]));
  const compute = ([q, k, v]: readonly Tensor[]): Tensor =>
    attention(q as Tensor, k as Tensor, v as Tensor, null, { heads });
  const shape = `${batch}x${length}, ${heads} heads of ${size}`;
  return [
    forward(`attention fwd ${shape}`, { amount: 2 * product, unit: "GFLOP/s" }, inputs, compute),
    forwardAndBackward(
      `attention fwd+bwd ${shape}`,
      { amount: 7 * product, unit: "GFLOP/s" },
      inputs,
      compute,
      3,
    ),
    forward(
      "attention of a token, 512 keys, 12 heads of 64",
      traffic(2, 512, 12 * 64),
      (gpu) => [
        normal(gpu, "q", [1, 1, 768]),
        normal(gpu, "k", [1, 512, 768]),
        normal(gpu, "v", [1, 512, 768]),
      ],
      ([q, k, v]) => attention(q as Tensor, k as Tensor, v as Tensor, null, { heads: 12 }),
    ),
  ];
}

/** Views that are copied. */
function copyCases(): Case[] {
  const inputs = (gpu: Gpu): Tensor[] => [normal(gpu, "x", [1024, 768])];
  const copy = (name: string, columns: number, view: (x: Tensor) => Tensor): Case =>
    forward(`copy of ${name}`, traffic(2, 1024, columns), inputs, ([x]) =>
      tidy(() => view(x as Tensor).reshape(-1)),
    );
  return [
    copy("256 of 768 columns, 1024 rows", 256, (x) => x.slice(1, 256, 512)),
    copy("a transposed matrix 1024x768", 768, (x) => x.transpose(0, 1)),
    copy("12 heads of 64, 8x128", 768, (x) => x.reshape(8, 128, 12, 64).permute(0, 2, 1, 3)),
  ];
}

/** A step of the optimiser on `n` parameters, a multiple of 2048. */
export function adamwCase(name: string, n: number): Case {
  return {
    name,
    ...traffic(7, n), // reads value, gradient and two moments, writes three of them
    setup(gpu) {
      const parameter = Parameter.from(gpu, stream.fold("adamw").normal(n), [2048, n / 2048]);
      const optimiser = new AdamW([parameter], { lr: 1e-3 });
      return {
        run: () => optimiser.step(),
        dispose() {
          optimiser.dispose();
          parameter.dispose();
        },
      };
    },
  };
}

/** Single ops. */
export function kernelCases(): Case[] {
  return [
    ...rowCases(),
    ...attentionCases(),
    ...lossCases(),
    ...embeddingCases(),
    ...copyCases(),
    adamwCase("AdamW 4M parameters", 4 * 2 ** 20),
  ];
}
