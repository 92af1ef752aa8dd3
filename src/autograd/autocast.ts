import { type DType, type HalfType, isHalf } from "../array/index.ts";
import type { AnyOp } from "../ops/index.ts";
import { isRecording, synchronous } from "./scope.ts";

/** What autocast() knows of a tensor. */
interface Castable {
  readonly dtype: DType;
  readonly node: unknown;
  readonly requiresGrad: boolean;
  readonly array: { readonly alive: boolean };
  to(dtype: DType): Castable;
}

interface Autocast {
  readonly dtype: HalfType | null;
  /** Leaves that were cast already: weights used by several ops are cast once. */
  readonly leaves: Map<Castable, Castable>;
  readonly outer: Autocast | null;
}

let current: Autocast | null = null;

/**
 * Runs `fn` with the inputs of matrix products and attention as f16 or bf16, and so their outputs. Everything is still
 * computed in f32; other ops keep the type of their inputs, and losses are f32. Parameters keep their f32 masters: they are cast once for each autocast(), and
 * their gradients are f32. With f16, scale the loss (LossScaler). null: computes in f32 inside another autocast().
 */
export function autocast<T>(dtype: HalfType | null, fn: () => T): T {
  if (dtype !== null && !isHalf(dtype))
    throw new TypeError(`autocast: ${String(dtype)}, expected "f16", "bf16" or null`);
  const outer = current;
  current = { dtype, leaves: new Map(), outer };
  try {
    return synchronous("autocast", fn());
  } finally {
    current = outer;
  }
}

/** The type that autocast() asks for just now; null: none. */
export function currentAutocast(): HalfType | null {
  return current?.dtype ?? null;
}

/** The inputs of an op as autocast() wants them; the given ones outside of any. */
export function autocastInputs<T extends Castable>(
  op: AnyOp,
  inputs: readonly (T | null)[],
): readonly (T | null)[] {
  const scope = current;
  const dtype = scope?.dtype;
  if (!scope || !dtype || !op.autocast) return inputs;
  return inputs.map((x) => {
    if (x?.dtype !== "f32") return x;
    if (x.node) return x.to(dtype) as T; // a T gives a T
    let cast = scope.leaves.get(x);
    // A cast made under noGrad() leads no gradient back.
    if (!cast?.array.alive || (x.requiresGrad && isRecording() && !cast.node)) {
      cast = x.to(dtype);
      scope.leaves.set(x, cast);
    }
    return cast as T; // made by the `to` of a T
  });
}
