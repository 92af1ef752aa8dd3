import { around, at, largest, lengthOf, type RefTensor, ref, total } from "./tensor.ts";

/** exp(x) / Σ exp(x) along `dim`. */
export function softmax(x: RefTensor, { dim = -1 }: { dim?: number } = {}): RefTensor {
  return alongDim(x, dim, (values) => {
    const top = largest(values);
    const powers = values.map((value) => Math.exp(value - top));
    const sum = total(powers);
    return powers.map((power) => power / sum);
  });
}

/** (x - max) - log Σ exp(x - max) along `dim`. */
export function logSoftmax(x: RefTensor, { dim = -1 }: { dim?: number } = {}): RefTensor {
  return alongDim(x, dim, (values) => {
    const top = largest(values);
    const logSum = Math.log(total(values.map((value) => Math.exp(value - top))));
    return values.map((value) => value - top - logSum);
  });
}

/** (x - mean) / √(var + eps) · weight + bias over the last dimension; var is the biased one. */
export function layerNorm(
  x: RefTensor,
  weight: RefTensor | null,
  bias: RefTensor | null,
  { eps = 1e-5 }: { eps?: number } = {},
): RefTensor {
  return alongDim(x, -1, (values) => {
    const mean = total(values) / values.length;
    const variance = total(values.map((value) => (value - mean) ** 2)) / values.length;
    const rstd = 1 / Math.sqrt(variance + eps);
    return values.map(
      (value, c) => (value - mean) * rstd * (weight ? at(weight.data, c) : 1) + (bias ? at(bias.data, c) : 0),
    );
  });
}

/** x / √(mean x² + eps) · weight over the last dimension. */
export function rmsNorm(x: RefTensor, weight: RefTensor, { eps }: { eps: number }): RefTensor {
  return alongDim(x, -1, (values) => {
    const rstd = 1 / Math.sqrt(total(values.map((value) => value * value)) / values.length + eps);
    return values.map((value, c) => value * rstd * at(weight.data, c));
  });
}

function alongDim(x: RefTensor, dim: number, f: (values: Float64Array) => Float64Array): RefTensor {
  const { outer, inner } = around(x.shape, dim);
  const length = lengthOf(x.shape, dim);
  const out = ref(x.shape);
  const line = new Float64Array(length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * length * inner + i;
      for (let l = 0; l < length; l++) line[l] = at(x.data, start + l * inner);
      const result = f(line);
      for (let l = 0; l < length; l++) out.data[start + l * inner] = at(result, l);
    }
  }
  return out;
}
