import { at, type RefIndices, type RefTensor, ref } from "./tensor.ts";

export interface RotaryOptions {
  readonly cos: RefTensor;
  readonly sin: RefTensor;
  readonly heads?: number | undefined;
  readonly interleaved?: boolean | undefined;
  readonly offset?: number | undefined;
}

/**
 * Each pair of a head as a complex number times e^(i angle), whose parts the tables hold: x [B, T, H, D] or, with
 * heads, [B, T, H·D]; cos, sin [positions, pairs].
 */
export function rotaryEmbedding(
  x: RefTensor,
  positions: RefIndices | null,
  options: RotaryOptions,
): RefTensor {
  const { cos, sin, heads: given, interleaved = false, offset = 0 } = options;
  const [B = 0, T = 0, third = 0, fourth = 0] = x.shape;
  const [H, D] = given !== undefined && x.shape.length === 3 ? [given, third / given] : [third, fourth];
  const pairs = at(cos.shape, 1);
  const out = ref(x.shape, x.data);
  for (let row = 0; row < B * T; row++) {
    const position = positions ? at(positions.data, row) : offset + (row % T);
    for (let head = row * H; head < (row + 1) * H; head++) {
      for (let i = 0; i < pairs; i++) {
        const real = head * D + (interleaved ? 2 * i : i);
        const imaginary = head * D + (interleaved ? 2 * i + 1 : i + pairs);
        const [u, v] = [at(x.data, real), at(x.data, imaginary)];
        const [c, s] = [at(cos.data, position * pairs + i), at(sin.data, position * pairs + i)];
        out.data[real] = u * c - v * s;
        out.data[imaginary] = u * s + v * c;
      }
    }
  }
  return out;
}
