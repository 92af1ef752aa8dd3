import { type Derivative, floatsAt, sumTo } from "./derivative.ts";
import { permute, reshape } from "./layout.ts";
import { matmul } from "./matmul.ts";
import { softmax } from "./normalise.ts";
import { map } from "./pointwise.ts";
import { at, expand, lengthOf, type RefTensor, ref } from "./tensor.ts";

const split = (x: RefTensor, heads: number): RefTensor => {
  const [B = 0, T = 0, C = 0] = x.shape;
  return permute(reshape(x, [B, T, heads, C / heads]), [0, 2, 1, 3]);
};
const join = (x: RefTensor): RefTensor => {
  const [B = 0, H = 0, T = 0, D = 0] = x.shape;
  return reshape(permute(x, [0, 2, 1, 3]), [B, T, H * D]);
};

/** Attributes that the formula knows; shared heads, caches and dropped weights have none here. */
const KNOWN = ["heads", "scale", "causal"];

/**
 * With weights P of scores s: dv = Pᵀ dy, ds = P (dy vᵀ - Σ P dy vᵀ), dq = scale ds k, dk = scale dsᵀ q, dbias = ds.
 * The score of a key that is padding is a constant.
 */
export const attentionDerivative: Derivative = (dy, inputs, _y, attrs) => {
  if (Object.keys(attrs).some((name) => !KNOWN.includes(name))) return null;
  const heads = Number(attrs.heads);
  const [q, k, v] = [
    split(floatsAt(inputs, 0), heads),
    split(floatsAt(inputs, 1), heads),
    split(floatsAt(inputs, 2), heads),
  ];
  const g = split(dy, heads);
  const [B, T, S] = [lengthOf(q.shape, 0), lengthOf(q.shape, 2), lengthOf(k.shape, 2)];
  const scale = attrs.scale === undefined ? 1 / Math.sqrt(lengthOf(q.shape, 3)) : Number(attrs.scale);
  const see = inputs[3]?.data;
  const bias = inputs[4] ? floatsAt(inputs, 4) : null;
  const added = bias && expand(bias, [B, heads, T, S]);
  const isPadding = (i: number): boolean => see?.[Math.floor(i / (heads * T * S)) * S + (i % S)] === 0;
  const products = matmul(q, k, { tb: true });
  const scores = products.data.map((product, i) => {
    if (attrs.causal === true && i % S > (Math.floor(i / S) % T) + S - T) return Number.NEGATIVE_INFINITY;
    return isPadding(i) ? -1e9 : product * scale + (added ? at(added.data, i) : 0);
  });
  const P = softmax(ref(products.shape, scores));
  const dP = matmul(g, v, { tb: true });
  const ds = ref(P.shape);
  for (let row = 0; row < P.data.length; row += S) {
    let mean = 0;
    for (let s = row; s < row + S; s++) mean += at(P.data, s) * at(dP.data, s);
    for (let s = row; s < row + S; s++)
      ds.data[s] = isPadding(s) ? 0 : at(P.data, s) * (at(dP.data, s) - mean);
  }
  const scaled = map(ds, (value) => scale * value);
  return [
    join(matmul(scaled, k)),
    join(matmul(scaled, q, { ta: true })),
    join(matmul(P, g, { ta: true })),
    null,
    bias && sumTo(ds, bias.shape),
  ];
};
