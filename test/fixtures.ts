import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeSafetensors, toFloat32, toInt32 } from "../src/io/index.ts";
import { assertSameLength } from "./compare.ts";

export interface FixtureTensor<Data = Float32Array | Int32Array> {
  readonly shape: readonly number[];
  readonly data: Data;
}

export interface Fixture<Json> {
  readonly name: string;
  /** The companion NAME.json; `{}` where there is none. */
  readonly json: Json;
  /** F32 as Float32Array, integers as Int32Array. A missing key throws. */
  tensor(key: string): FixtureTensor;
  /** Like `tensor`, for a key that must hold floats. */
  floats(key: string): FixtureTensor<Float32Array>;
  /** Like `tensor`, for a key that must hold integers. */
  ints(key: string): FixtureTensor<Int32Array>;
  /** Keys that start with `prefix`, in file order, in full. */
  keys(prefix?: string): string[];
  /** `torch_f32_relerr[key]` of the companion: how far PyTorch's own f32 run is from the stored value. */
  relerr(key: string): number;
}

/** The folder of numeric fixtures: ADAMIX_FIXTURES, or the copy in this repository. */
export function fixtureFolder(): string {
  return process.env.ADAMIX_FIXTURES || fileURLToPath(new URL("golden/numeric", import.meta.url));
}

/** Names (without ".safetensors") of the fixtures that start with `prefix`, sorted. */
export function fixtureNames(prefix = ""): string[] {
  return readdirSync(fixtureFolder())
    .filter((file) => file.startsWith(prefix) && file.endsWith(".safetensors"))
    .map((file) => file.slice(0, -".safetensors".length))
    .sort();
}

/** Reads NAME.safetensors and NAME.json. `Json` is the caller's word for what the companion looks like. */
export function loadFixture<Json = Record<string, unknown>>(name: string): Fixture<Json> {
  const path = join(fixtureFolder(), name);
  const { tensors } = decodeSafetensors(readFileSync(`${path}.safetensors`));
  const companion = `${path}.json`;
  const json: Json & { torch_f32_relerr?: Record<string, number> } = existsSync(companion)
    ? JSON.parse(readFileSync(companion, "utf8"))
    : {};
  const tensor = (key: string): FixtureTensor => {
    const raw = tensors.get(key);
    if (!raw) throw new Error(`fixture ${name}: no tensor "${key}"`);
    return { shape: raw.shape, data: raw.dtype === "F32" ? toFloat32(raw) : toInt32(raw) };
  };
  return {
    name,
    json,
    tensor,
    floats(key) {
      const { shape, data } = tensor(key);
      if (!(data instanceof Float32Array)) throw new Error(`fixture ${name}: "${key}" holds integers`);
      return { shape, data };
    },
    ints(key) {
      const { shape, data } = tensor(key);
      if (!(data instanceof Int32Array)) throw new Error(`fixture ${name}: "${key}" holds floats`);
      return { shape, data };
    },
    keys: (prefix = "") => [...tensors.keys()].filter((key) => key.startsWith(prefix)),
    relerr(key) {
      const value = json.torch_f32_relerr?.[key];
      if (value === undefined) throw new Error(`fixture ${name}: no torch_f32_relerr for "${key}"`);
      return value;
    },
  };
}

/** The bound of `withinFixture` for a given error of PyTorch's own f32 run. */
export function fixtureBound(relerr: number): number {
  return Math.min(1e-4, Math.max(20 * relerr, 5e-6));
}

/**
 * Passes where max|a - b| / max(max|b|, 0.01) <= min(1e-4, max(20·relerr, 5e-6)), over one whole tensor.
 * A value that is not finite fails unless the fixture holds the same.
 */
export function withinFixture(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  relerr: number,
  name = "fixture",
): void {
  assertSameLength(actual, expected, name);
  let largest = 0.01;
  let worst = 0;
  let index = 0;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] ?? Number.NaN;
    const b = expected[i] ?? Number.NaN;
    if (Number.isFinite(b)) largest = Math.max(largest, Math.abs(b));
    if (Object.is(a, b)) continue;
    const difference = Math.abs(a - b);
    const error = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    if (error > worst) {
      worst = error;
      index = i;
    }
  }
  const bound = fixtureBound(relerr);
  if (worst / largest <= bound) return;
  throw new Error(
    `${name}: max error ${worst / largest} (${worst} of a largest value ${largest}) at [${index}]: ` +
      `${actual[index]}, expected ${expected[index]}; bound ${bound}`,
  );
}
