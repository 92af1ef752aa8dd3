import { knownOptions, type OptionNames } from "../array/index.ts";
import { ShapeError } from "../gpu/index.ts";
import * as ops from "../ops/index.ts";
import { apply, type Tensor } from "./tensor.ts";

export interface RotaryOptions extends Omit<ops.RotaryAttrs, "cos" | "sin"> {
  /** i32 [B, T]: the position of each token. Default: offset, offset + 1, ... in each row. */
  readonly positions?: Tensor | null | undefined;
}
const ROTARY: OptionNames<RotaryOptions> = { positions: true, heads: true, interleaved: true, offset: true };

/**
 * Rotary position embedding of queries or keys: x [B, T, H, D], or [B, T, H·D] with `heads`; cos, sin [P, R/2] from
 * `rotaryTables`, of which heads of D ≥ R elements have their first R turned. With a key/value cache `offset` is the
 * number of tokens that it holds; `positions` gives each token one of its own, on the GPU.
 */
export function rotaryEmbedding(x: Tensor, cos: Tensor, sin: Tensor, options: RotaryOptions = {}): Tensor {
  const { positions = null, ...rest } = knownOptions("rotaryEmbedding", options, ROTARY);
  if (cos.needsGradient || sin.needsGradient)
    throw new ShapeError("rotaryEmbedding: the tables get no gradient; detach() them");
  return apply(ops.rotaryEmbedding, [x, positions], { ...rest, cos: cos.array, sin: sin.array });
}

/**
 * How frequencies are changed for contexts longer than those of training, `factor` times as long.
 * linear: positions are divided by it. ntk: θ grows to θ factor^(R / (R - 2)), which leaves the fastest pair alone and
 * divides the slowest by it. llama3: wavelengths above originalPositions / lowFrequencyFactor are divided by it, those
 * below originalPositions / highFrequencyFactor left alone, with a smooth way between.
 */
export type RotaryScaling =
  | { readonly kind: "linear" | "ntk"; readonly factor: number }
  | {
      readonly kind: "llama3";
      readonly factor: number;
      /** Default 1. */
      readonly lowFrequencyFactor?: number;
      /** Default 4. */
      readonly highFrequencyFactor?: number;
      /** Positions of the first training. Default 8192. */
      readonly originalPositions?: number;
    };

export interface RotaryTables {
  readonly cos: Float32Array<ArrayBuffer>;
  readonly sin: Float32Array<ArrayBuffer>;
  /** Of both: [positions, size / 2]. */
  readonly shape: readonly [number, number];
}

/**
 * cos and sin of position · θ^(-2i/R) for pair i of R/2, found in float64: drivers' sines are too coarse for far
 * positions. Make tensors of them once, and share them between layers.
 *
 *     const { cos, sin, shape } = rotaryTables(2048, 64);
 *     const tables = [tensor(gpu, cos, shape), tensor(gpu, sin, shape)];
 */
export function rotaryTables(
  positions: number,
  size: number,
  theta = 10_000,
  scaling: RotaryScaling | null = null,
): RotaryTables {
  if (!(Number.isInteger(positions) && positions >= 0 && Number.isInteger(size / 2) && size > 0))
    throw new ShapeError(
      `rotaryTables: ${positions} positions, size ${size}; expected whole numbers, an even size above 0`,
    );
  if (!(theta > 0)) throw new ShapeError(`rotaryTables: theta is ${theta}, expected more than 0`);
  if (scaling && !(scaling.factor >= 1))
    throw new ShapeError(`rotaryTables: factor is ${scaling.factor}, expected 1 or more`);
  const pairs = size / 2;
  const frequencies = frequenciesOf(size, theta, scaling);
  const cos = new Float32Array(positions * pairs);
  const sin = new Float32Array(positions * pairs);
  for (let p = 0; p < positions; p++) {
    for (let i = 0; i < pairs; i++) {
      const angle = p * (frequencies[i] as number);
      cos[p * pairs + i] = Math.cos(angle);
      sin[p * pairs + i] = Math.sin(angle);
    }
  }
  return { cos, sin, shape: [positions, pairs] };
}

function frequenciesOf(size: number, theta: number, scaling: RotaryScaling | null): number[] {
  const own = (base: number): number[] =>
    Array.from({ length: size / 2 }, (_, i) => base ** ((-2 * i) / size));
  if (!scaling) return own(theta);
  const { factor } = scaling;
  switch (scaling.kind) {
    case "linear":
      return own(theta).map((frequency) => frequency / factor);
    case "ntk":
      // A single pair is the fastest one.
      return own(size > 2 ? theta * factor ** (size / (size - 2)) : theta);
    case "llama3": {
      const {
        lowFrequencyFactor: low = 1,
        highFrequencyFactor: high = 4,
        originalPositions = 8192,
      } = scaling;
      if (!(low > 0 && high > low))
        throw new ShapeError(`rotaryTables: frequency factors ${low} and ${high}, expected 0 < low < high`);
      return own(theta).map((frequency) => {
        const turns = (originalPositions * frequency) / (2 * Math.PI);
        // 1 for pairs that turn often in the original context, 0 for those that turn rarely.
        const kept = Math.min(Math.max((turns - low) / (high - low), 0), 1);
        return frequency * (kept + (1 - kept) / factor);
      });
    }
    default:
      throw new ShapeError(`rotaryTables: unknown scaling ${JSON.stringify(scaling satisfies never)}`);
  }
}
