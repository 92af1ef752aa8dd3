// LoRA of microsoft/LoRA's MergedLinear, which GPT-2's c_attn is there: some thirds of one layer have LoRA, in one pair
// of tensors. A [n r, in] holds those of n thirds behind one another; B [n d, r] likewise, each block for its own A.
import { FormatError } from "../io/index.ts";
import { type HostTensor, place, rowsOf, zeros } from "./host-tensor.ts";
import type { LoraPair } from "./lora-weights.ts";

export const ATTENTION_PARTS = ["query", "key", "value"] as const;
export type AttentionPart = (typeof ATTENTION_PARTS)[number];

/** One pair for each third that has LoRA, in their order: query, key, value. */
export function splitMerged(
  name: string,
  a: HostTensor,
  b: HostTensor,
  parts: readonly AttentionPart[],
  scale: number,
): Map<AttentionPart, LoraPair> {
  const n = parts.length;
  const [rows = 0, outputs = 0, rank = 0] = [a.shape[0], b.shape[0], b.shape[1]];
  if (rows !== n * rank || outputs % n !== 0) {
    throw new FormatError(
      `import: ${name}: A [${a.shape.join(", ")}] and B [${b.shape.join(", ")}] are no LoRA of ${n} parts (${parts.join(", ")})`,
    );
  }
  const size = outputs / n;
  return new Map(
    parts.map((part, i) => [
      part,
      { a: rowsOf(a, i * rank, (i + 1) * rank), b: rowsOf(b, i * size, (i + 1) * size), scale },
    ]),
  );
}

/** The way back: pairs of one rank, in the order of the parts. */
export function joinMerged(pairs: readonly LoraPair[]): { readonly a: HostTensor; readonly b: HostTensor } {
  const [first] = pairs;
  const [rank = 0, inputs = 0] = first?.a.shape ?? [];
  const outputs = first?.b.shape[0] ?? 0;
  const a = zeros([pairs.length * rank, inputs]);
  const b = zeros([pairs.length * outputs, rank]);
  for (const [i, pair] of pairs.entries()) {
    place(a, pair.a, i * rank, 0);
    place(b, pair.b, i * outputs, 0);
  }
  return { a, b };
}
