import { type Derivative, floatsAt } from "./derivative.ts";
import { permute, reshape } from "./layout.ts";
import { matmul } from "./matmul.ts";
import { softmax } from "./normalise.ts";
import { at, lengthOf, type RefTensor, ref } from "./tensor.ts";

const split = (x: RefTensor, heads: number): RefTensor => {
  const [B = 0, T = 0, C = 0] = x.shape;
  return permute(reshape(x, [B, T, heads, C / heads]), [0, 2, 1, 3]);
};
const join = (x: RefTensor): RefTensor => {
  const [B = 0, H = 0, T = 0, D = 0] = x.shape;
  return reshape(permute(x, [0, 2, 1, 3]), [B, T, H * D]);
};

/**
 * With weights P: dv = Pᵀ dy, ds = P (dy vᵀ - Σ P dy vᵀ), dq = scale ds k, dk = scale dsᵀ q. A query whose keys are
 * all masked does not see them in its scores. Dropped weights and further attributes have no formula here.
 */
export const attentionDerivative: Derivative = (dy, inputs, _y, attrs) => {
  const known = ["heads", "scale", "causal"];
  if (inputs.length > 4 || Object.keys(attrs).some((name) => !known.includes(name))) return null;
  const heads = Number(attrs.heads);
  const [q, k, v, g] = [floatsAt(inputs, 0), floatsAt(inputs, 1), floatsAt(inputs, 2), dy].map((x) =>
    split(x, heads),
  ) as [RefTensor, RefTensor, RefTensor, RefTensor];
  const see = inputs[3]?.data;
  const [T, S] = [lengthOf(q.shape, 2), lengthOf(k.shape, 2)];
  const scale = attrs.scale === undefined ? 1 / Math.sqrt(lengthOf(q.shape, 3)) : Number(attrs.scale);
  const batchOf = (i: number): number => Math.floor(i / (heads * T * S));
  const dead = (b: number): boolean => see?.subarray(b * S, (b + 1) * S).every((one) => one === 0) ?? false;
  const scores = matmul(q, k, { tb: true });
  const masked = scores.data.map((score, i) => {
    const [b, t, s] = [batchOf(i), Math.floor(i / S) % T, i % S];
    if (attrs.causal === true && s > t + S - T) return Number.NEGATIVE_INFINITY;
    return (dead(b) ? 0 : score * scale) + (see && see[b * S + s] === 0 ? -1e9 : 0);
  });
  const P = softmax(ref(scores.shape, masked));
  const dP = matmul(g, v, { tb: true });
  const ds = ref(P.shape);
  for (let row = 0; row < P.data.length; row += S) {
    if (dead(batchOf(row))) continue;
    let mean = 0;
    for (let s = 0; s < S; s++) mean += at(P.data, row + s) * at(dP.data, row + s);
    for (let s = 0; s < S; s++)
      ds.data[row + s] = scale * at(P.data, row + s) * (at(dP.data, row + s) - mean);
  }
  return [join(matmul(ds, k)), join(matmul(ds, q, { ta: true })), join(matmul(P, g, { ta: true })), null];
};
