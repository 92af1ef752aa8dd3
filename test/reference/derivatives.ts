// Gradients of the references by formula, for the tape. Where an op has none here, the tape's user takes central
// differences of its reference.
import { zip } from "./binary.ts";
import { type Derivative, floatsAt, sumTo } from "./derivative.ts";
import { attentionDerivative } from "./derivatives-attention.ts";
import { pointwiseDerivatives } from "./derivatives-pointwise.ts";
import { viewDerivatives } from "./derivatives-views.ts";
import { permute, reshape } from "./layout.ts";
import { matmul } from "./matmul.ts";
import { logSoftmax, softmax } from "./normalise.ts";
import { map } from "./pointwise.ts";
import { l2Norm, mean, sum, variance } from "./reduce.ts";
import { at, lengthOf, type RefTensor, ref, sizeOf } from "./tensor.ts";

const multiply = (a: RefTensor, b: RefTensor): RefTensor => zip(a, b, (x, y) => x * y);
const rowSums = (x: RefTensor): RefTensor => sum(x, { dims: [-1], keepDim: true });

function turned(x: RefTensor): RefTensor {
  const order = [...x.shape.keys()];
  return permute(x, [...order.slice(0, -2), order.length - 1, order.length - 2]);
}

/**
 * dA = dY Bᵀ, dB = Aᵀ dY, on operands that are turned first where the product turns them; db = Σ dY. None for vectors
 * and activations.
 */
const matmulDerivative: Derivative = (dy, inputs, _y, { transposeA, transposeB, activation }) => {
  const [a, b] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
  if (a.shape.length < 2 || b.shape.length < 2 || activation !== undefined) return null;
  const [left, right] = [transposeA ? turned(a) : a, transposeB ? turned(b) : b];
  const da = matmul(dy, right, { tb: true });
  const db = matmul(left, dy, { ta: true });
  return [
    sumTo(transposeA ? turned(da) : da, a.shape),
    sumTo(transposeB ? turned(db) : db, b.shape),
    inputs[2] ? sumTo(dy, floatsAt(inputs, 2).shape) : null,
  ];
};

const linearDerivative: Derivative = (dy, inputs, _y, { activation }) => {
  if (activation !== undefined) return null;
  const [x, weight] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
  const out = lengthOf(weight.shape, 0);
  const rows = sizeOf(x.shape.slice(0, -1));
  const [flatX, flatDy] = [reshape(x, [rows, lengthOf(x.shape, -1)]), reshape(dy, [rows, out])];
  return [
    reshape(matmul(flatDy, weight), x.shape),
    matmul(flatDy, flatX, { ta: true }),
    inputs[2] ? sum(flatDy, { dims: [0] }) : null,
  ];
};

/** dx = (y · (dy - Σ dy y)). */
const softmaxDerivative: Derivative = (dy, _inputs, y) => {
  const shares = rowSums(multiply(dy, y));
  return [
    multiply(
      y,
      zip(dy, shares, (a, b) => a - b),
    ),
  ];
};

/** dx = dy - softmax(x) Σ dy. */
const logSoftmaxDerivative: Derivative = (dy, _inputs, y) => [
  zip(
    dy,
    multiply(
      map(y, (v) => Math.exp(v)),
      rowSums(dy),
    ),
    (a, b) => a - b,
  ),
];

/** dx = dy x / ‖x‖, 0 where that is 0: by formula, since ‖x‖ has a kink there. */
const normDerivative: Derivative = (dy, inputs, _y, attrs) => {
  const x = floatsAt(inputs, 0);
  const along = { dims: attrs.axes as readonly number[] | undefined, keepDim: true };
  return [slopeOfLength(x, l2Norm(x, along), dy)];
};

/** dx = dy (x - mean) / ((n - correction) std), 0 where that is 0. */
const stdDerivative: Derivative = (dy, inputs, _y, attrs) => {
  const x = floatsAt(inputs, 0);
  const along = { dims: attrs.axes as readonly number[] | undefined, keepDim: true };
  const isUnbiased = attrs.correction !== 0;
  const middle = mean(x, along);
  const away = zip(x, middle, (a, b) => a - b);
  const divisor = x.data.length / middle.data.length - (isUnbiased ? 1 : 0);
  const lengths = map(variance(x, { ...along, unbiased: isUnbiased }), (v) => divisor * Math.sqrt(v));
  return [slopeOfLength(away, lengths, dy)];
};

/** dy x / length, of sums over whatever dimensions `lengths` has as 1; dy may lack them. */
function slopeOfLength(x: RefTensor, lengths: RefTensor, dy: RefTensor): RefTensor {
  const factors = zip(reshape(dy, lengths.shape), lengths, (d, length) => (length === 0 ? 0 : d / length));
  return multiply(x, factors);
}

/** With n = (x - mean) rstd and g = dy weight: dx = rstd (g - mean g - n mean (g n)). */
const layerNormDerivative: Derivative = (dy, inputs, _y, { eps }) => {
  const [x, weight] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
  const along = { dims: [-1], keepDim: true };
  const rstd = map(variance(x, along), (v) => 1 / Math.sqrt(v + Number(eps)));
  const n = multiply(
    zip(x, mean(x, along), (a, b) => a - b),
    rstd,
  );
  const g = multiply(dy, weight);
  const means = zip(mean(g, along), multiply(n, mean(multiply(g, n), along)), (a, b) => a + b);
  const dx = multiply(
    zip(g, means, (a, b) => a - b),
    rstd,
  );
  return [dx, sumTo(multiply(dy, n), weight.shape), sumTo(dy, weight.shape)];
};

/** Both terms of the sum have its gradient. */
const addLayerNormDerivative: Derivative = (dy, [x, residual, ...rest], y, attrs) => {
  const sum = zip(floatsAt([x ?? null], 0), floatsAt([residual ?? null], 0), (a, b) => a + b);
  const [dx = null, ...others] = layerNormDerivative(dy, [sum, ...rest], y, attrs) ?? [];
  return [dx, dx, ...others];
};

/** Rows of dy added to the rows of the table that they came from. */
const embeddingDerivative: Derivative = (dy, [table, ids], _y, { paddingIndex }) => {
  if (!table || !ids) throw new Error("derivative: no table or no ids");
  const C = lengthOf(table.shape, 1);
  const out = ref(table.shape);
  for (const [i, id] of ids.data.entries()) {
    if (id === paddingIndex) continue;
    for (let c = 0; c < C; c++) out.data[id * C + c] = at(out.data, id * C + c) + at(dy.data, i * C + c);
  }
  return [out, null];
};

/** (softmax(x) - target) · weight of the row; the target is smoothed. None for weights of classes. */
const crossEntropyDerivative: Derivative = (dy, inputs, _y, attrs) => {
  const known = ["ignoreIndex", "labelSmoothing", "reduction"];
  if (Object.keys(attrs).some((name) => !known.includes(name))) return null;
  const logits = floatsAt(inputs, 0);
  const labels = [...(inputs[1]?.data ?? [])];
  const { ignoreIndex = -100, labelSmoothing = 0, reduction = "mean", weights } = attrs;
  const V = lengthOf(logits.shape, -1);
  const w = (weights as readonly number[] | undefined) ?? new Array<number>(V).fill(1);
  const all = w.reduce((a, b) => a + b, 0);
  const counted = labels.reduce((sum, label) => sum + (label === ignoreIndex ? 0 : at(w, label)), 0);
  const e = Number(labelSmoothing);
  const dx = softmax(logits).data.map((p, i) => {
    const row = Math.floor(i / V);
    const label = at(labels, row);
    if (label === ignoreIndex) return 0;
    const hit = label === i % V ? 1 : 0;
    const slope = (1 - e) * at(w, label) * (p - hit) + (e / V) * (p * all - at(w, i % V));
    return (slope * at(dy.data, reduction === "none" ? row : 0)) / (reduction === "mean" ? counted : 1);
  });
  return [ref(logits.shape, dx), null];
};

/** Each group of rows through its own expert: dx = scale dy W, dW = scale dyᵀ x, db = Σ dy, added up by expert. */
const bankLinearDerivative: Derivative = (dy, inputs, _y, { scale: factor = 1 }) => {
  const [x, weight] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
  const route = inputs[3]?.data ?? [];
  const scale = Math.fround(Number(factor));
  const [M = 0, O = 0, I = 0] = weight.shape;
  const rows = sizeOf(x.shape.slice(0, -1));
  const [dx, dw, db] = [ref(x.shape), ref(weight.shape), ref([M, O])];
  for (let r = 0; r < rows; r++) {
    const expert = at(route, Math.floor((r * route.length) / rows));
    for (let o = 0; o < O; o++) {
      const g = at(dy.data, r * O + o);
      db.data[expert * O + o] = at(db.data, expert * O + o) + g;
      for (let i = 0; i < I; i++) {
        const w = (expert * O + o) * I + i;
        dx.data[r * I + i] = at(dx.data, r * I + i) + scale * g * at(weight.data, w);
        dw.data[w] = at(dw.data, w) + scale * g * at(x.data, r * I + i);
      }
    }
  }
  return [dx, dw, inputs[2] ? db : null, null];
};

/** ½ (p - q) / rows, and with full gradients also ½ p (log p - log q - KL(p ‖ q)) / rows; the same for q. */
const symmetricKlDerivative: Derivative = (dy, inputs, _y, { gradient, reduction }) => {
  const side = (own: RefTensor, other: RefTensor): RefTensor => {
    const V = lengthOf(own.shape, -1);
    const rows = own.data.length / V;
    const [p, q] = [softmax(own), softmax(other)];
    const logs = zip(logSoftmax(own), logSoftmax(other), (a, b) => a - b);
    const kl = rowSums(multiply(p, logs));
    const data = p.data.map((share, i) => {
      const full = gradient === "full" ? share * (at(logs.data, i) - at(kl.data, Math.floor(i / V))) : 0;
      const factor = reduction === "none" ? at(dy.data, Math.floor(i / V)) : at(dy.data, 0) / rows;
      return 0.5 * factor * (share - at(q.data, i) + full);
    });
    return ref(own.shape, data);
  };
  const [a, b] = [floatsAt(inputs, 0), floatsAt(inputs, 1)];
  return [side(a, b), side(b, a)];
};

/** By the name of the op or composed function. */
export const derivatives: Readonly<Record<string, Derivative>> = {
  ...pointwiseDerivatives,
  ...viewDerivatives,
  matmul: matmulDerivative,
  linear: linearDerivative,
  softmax: softmaxDerivative,
  logSoftmax: logSoftmaxDerivative,
  layerNorm: layerNormDerivative,
  addLayerNorm: addLayerNormDerivative,
  norm: normDerivative,
  std: stdDerivative,
  embedding: embeddingDerivative,
  crossEntropy: crossEntropyDerivative,
  symmetricKl: symmetricKlDerivative,
  bankLinear: bankLinearDerivative,
  attention: attentionDerivative,
};
