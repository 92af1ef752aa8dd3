import { type Gpu, type GpuArray, type Shape, sameShape, showShape } from "../array/index.ts";
import { type KernelSpec, ShapeError } from "../gpu/index.ts";
import { defineOp } from "./define-op.ts";
import { contiguous } from "./kernels.ts";
import { runRows, threads } from "./ranges.ts";

const kernel: KernelSpec = { shader: "rotary", entry: "forward" };

export interface RotaryAttrs {
  /** f32 [P, R/2]: cos and sin of the angle of each position and pair. R of a head's D elements are turned. */
  readonly cos: GpuArray;
  readonly sin: GpuArray;
  /** Heads that C of x [B, T, C] holds. Without it x is [B, T, H, D]. */
  readonly heads?: number | undefined;
  /** Pair i of a head: false (default) elements i and i + R/2 (GPT-NeoX, Llama); true 2i and 2i + 1 (GPT-J). */
  readonly interleaved?: boolean | undefined;
  /** Position of the first token: how many a key/value cache holds. Default 0. Not with positions. */
  readonly offset?: number | undefined;
}

interface RotarySaved {
  readonly [name: string]: unknown;
  readonly positions: GpuArray | null;
  readonly cos: GpuArray;
  readonly sin: GpuArray;
}

interface Sizes {
  readonly batch: number;
  readonly tokens: number;
  readonly heads: number;
  readonly size: number;
}

function sizesOf(x: Shape, heads: number | undefined): Sizes {
  const [batch = 0, tokens = 0, third = 0, fourth = 0] = x;
  if (x.length === 3 && heads !== undefined && Number.isInteger(heads) && heads > 0 && third % heads === 0)
    return { batch, tokens, heads, size: third / heads };
  if (x.length === 4 && (heads === undefined || heads === third))
    return { batch, tokens, heads: third, size: fourth };
  const given = heads === undefined ? "" : ` with ${heads} heads`;
  throw new ShapeError(
    `rotaryEmbedding: x ${showShape(x)}${given} is neither [B, T, H, D] nor, with heads, [B, T, H D]`,
  );
}

/**
 * Rotary position embedding (Su et al. 2021): pairs (u, v) of each head become (u cos - v sin, v cos + u sin), the
 * angle that of the row's position and of the pair. x [B, T, H, D], or [B, T, H·D] with `heads`; positions [B, T] i32,
 * or null: offset, offset + 1, ... Only the first R = 2 · columns(cos) elements of a head are turned. Saves the tables
 * and the positions; the gradient is the inverse turn, and there is none of the tables. Positions on the GPU are not
 * checked on the host: one beyond the tables gives NaN.
 */
export const rotaryEmbedding = defineOp<
  readonly [x: GpuArray, positions: GpuArray | null],
  RotaryAttrs,
  RotarySaved
>({
  name: "rotaryEmbedding",
  dtypes: ["f32", "i32"],
  shape([x, positions], { cos, sin, heads, offset = 0 }) {
    const { batch, tokens, size } = sizesOf(x, heads);
    const [rows = 0, pairs = 0] = cos.shape;
    if (cos.shape.length !== 2 || !sameShape(cos.shape, sin.shape) || 2 * pairs > size) {
      const tables = `cos ${showShape(cos.shape)} and sin ${showShape(sin.shape)}`;
      throw new ShapeError(
        `rotaryEmbedding: ${tables} do not fit heads of ${size}: [positions, up to ${size / 2}]`,
      );
    }
    if (cos.dtype !== "f32" || sin.dtype !== "f32")
      throw new ShapeError(`rotaryEmbedding: tables of ${cos.dtype} and ${sin.dtype}, expected f32`);
    if (positions && !sameShape(positions, [batch, tokens]))
      throw new ShapeError(
        `rotaryEmbedding: positions ${showShape(positions)}, expected ${showShape([batch, tokens])}`,
      );
    if (!Number.isInteger(offset) || offset < 0 || (positions && offset !== 0))
      throw new ShapeError(
        `rotaryEmbedding: offset ${offset}, expected 0 or more${positions ? ", and none with positions" : ""}`,
      );
    if (!positions && offset + tokens > rows)
      throw new ShapeError(
        `rotaryEmbedding: positions ${offset}..${offset + tokens - 1} are beyond the tables' ${rows}; make them longer`,
      );
    return x;
  },
  forward(gpu, [x, positions], attrs) {
    const [cos, sin] = [contiguous(gpu, attrs.cos), contiguous(gpu, attrs.sin)];
    return { output: turn(gpu, x, { positions, cos, sin }, attrs, 1), saved: { positions, cos, sin } };
  },
  backward: (gpu, dy, saved, attrs) => [turn(gpu, dy, saved, attrs, -1), null],
});

function turn(
  gpu: Gpu,
  x: GpuArray,
  { positions, cos, sin }: RotarySaved,
  { heads: given, interleaved = false, offset = 0 }: RotaryAttrs,
  sign: 1 | -1,
): GpuArray {
  const y = gpu.like(x);
  const { batch, tokens, heads, size } = sizesOf(x.shape, given);
  const [rows = 0, pairs = 0] = cos.shape;
  const slots = heads * (size - pairs);
  if (slots === 0) return y;
  const params = {
    tokens,
    heads,
    size,
    pairs,
    table_rows: rows,
    first: offset,
    has_positions: positions ? 1 : 0,
    interleaved: interleaved ? 1 : 0,
    sign,
  };
  const tables = { cosines: cos, sines: sin };
  runRows(gpu, kernel, {
    rows: batch * tokens,
    split: positions ? { x, y, positions } : { x, y },
    whole: positions ? tables : { ...tables, positions },
    params: (first) => ({ ...params, first_row: first }),
    grid: (count) => threads(count * slots),
  });
  return y;
}
