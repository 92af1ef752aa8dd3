import { add, dropout, where } from "./binary.ts";
import { permute, reshape, slice } from "./layout.ts";
import { matmul } from "./matmul.ts";
import { softmax } from "./normalise.ts";
import { map } from "./pointwise.ts";
import { at, expand, lengthOf, type RefTensor, ref } from "./tensor.ts";

export interface AttentionOptions {
  /** q, k, v are [B, T, C]: C is cut into this many heads and joined again. Without it they are [B, H, T, D]. */
  readonly heads?: number | undefined;
  /** Heads of k and v, each shared by heads / kvHeads neighbours. Only with `heads`. */
  readonly kvHeads?: number | undefined;
  /** Only so many rows of k and v are keys. Only with `heads`. */
  readonly keyLength?: number | undefined;
  /** Added to the scores: [B, keys], or any shape of rank 4 that broadcasts to [B, H, queries, keys]. */
  readonly mask?: RefTensor | null | undefined;
  /** [B, keys]: the score is -1e9 where this is 0, whatever query and key are. */
  readonly see?: RefTensor | null | undefined;
  /** Query i sees keys up to i + (keys - queries), with weight exactly 0 beyond. */
  readonly causal?: boolean | undefined;
  /** 1/√D by default. */
  readonly scale?: number | undefined;
  /** Kept weights (1 or 0) of [B, H, queries, keys], and the probability of dropping. */
  readonly keep?: { readonly mask: RefTensor; readonly p: number } | undefined;
}

/** softmax(scale · q kᵀ + mask) v. */
export function attention(
  q: RefTensor,
  k: RefTensor,
  v: RefTensor,
  options: AttentionOptions = {},
): RefTensor {
  const { heads, mask, see, causal = false, keep } = options;
  if (heads !== undefined) {
    const { kvHeads = heads, keyLength = lengthOf(k.shape, 1) } = options;
    const ofKeys = (x: RefTensor) => {
      const rows = slice(x, [
        [0, at(x.shape, 0)],
        [0, keyLength],
      ]);
      return repeatHeads(splitHeads(rows, kvHeads), heads / kvHeads);
    };
    return joinHeads(attention(splitHeads(q, heads), ofKeys(k), ofKeys(v), { ...options, heads: undefined }));
  }
  const scale = options.scale ?? 1 / Math.sqrt(lengthOf(q.shape, -1));
  let scores = map(matmul(q, k, { tb: true }), (value) => value * scale); // [B, H, queries, keys]
  if (mask) scores = add(scores, mask.shape.length === 2 ? overKeys(mask) : mask);
  if (see) scores = where(overKeys(see), scores, ref([], [-1e9]));
  if (causal) scores = add(scores, future(lengthOf(q.shape, -2), lengthOf(k.shape, -2)));
  const weights = softmax(scores);
  return matmul(keep ? dropout(weights, keep.mask, { p: keep.p }) : weights, v);
}

/** [B, keys] of 1 (see) and 0 (do not) -> additive mask with `value` at the zeros. */
export function keyMask(see: RefTensor, value = -1e4): RefTensor {
  return map(see, (seen) => (seen !== 0 ? 0 : value));
}

function overKeys(mask: RefTensor): RefTensor {
  return reshape(mask, [at(mask.shape, 0), 1, 1, at(mask.shape, 1)]);
}

function future(queries: number, keys: number): RefTensor {
  const out = ref([queries, keys]);
  for (let i = 0; i < queries; i++)
    out.data.fill(-Infinity, i * keys + i + 1 + keys - queries, (i + 1) * keys);
  return out;
}

function splitHeads(x: RefTensor, heads: number): RefTensor {
  const [B = 0, T = 0, C = 0] = x.shape;
  return permute(reshape(x, [B, T, heads, C / heads]), [0, 2, 1, 3]); // [B, H, T, D]
}

/** Each head `times` times, one after the other. */
function repeatHeads(x: RefTensor, times: number): RefTensor {
  const [B = 0, H = 0, T = 0, D = 0] = x.shape;
  return reshape(expand(reshape(x, [B, H, 1, T, D]), [B, H, times, T, D]), [B, H * times, T, D]);
}

function joinHeads(x: RefTensor): RefTensor {
  const [B = 0, H = 0, T = 0, D = 0] = x.shape;
  return reshape(permute(x, [0, 2, 1, 3]), [B, T, H * D]);
}
