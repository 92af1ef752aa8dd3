import { decodeSafetensors, encodeSafetensors, FormatError, toFloat32, toInt32 } from "../io/index.ts";
import type { AdamW } from "../optim/index.ts";

export type AdamWState = Awaited<ReturnType<AdamW["state"]>>;

/** AdamW's state as a safetensors file: moments in f32, steps of the slices. */
export function encodeAdamW({ firstMoments, secondMoments, steps }: AdamWState): Uint8Array {
  const moments = (data: unknown) => {
    const values = data as Float32Array; // AdamW keeps its moments in f32
    return { dtype: "F32" as const, shape: [values.length], data: values };
  };
  return encodeSafetensors([
    ["firstMoments", moments(firstMoments)],
    ["secondMoments", moments(secondMoments)],
    ["steps", { dtype: "U32", shape: [steps.length], data: steps as Uint32Array }],
  ]);
}

/** What encodeAdamW wrote. */
export function decodeAdamW(bytes: Uint8Array): AdamWState {
  const { tensors } = decodeSafetensors(bytes);
  const tensor = (name: keyof AdamWState) => {
    const found = tensors.get(name);
    if (found) return found;
    throw new FormatError(`optimiser: no ${name} in the file; it has ${[...tensors.keys()].join(", ")}`);
  };
  return {
    firstMoments: new Float32Array(toFloat32(tensor("firstMoments"))),
    secondMoments: new Float32Array(toFloat32(tensor("secondMoments"))),
    steps: Uint32Array.from(toInt32(tensor("steps"))),
  };
}
