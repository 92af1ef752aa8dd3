// LoRA as all formats hold it: a pair (A, B) for each linear layer, and a factor.
import { FormatError } from "../io/index.ts";
import type { AdapterConfigFile, AdapterFile, Provenance } from "./adapter-file.ts";
import { type HostTensor, type HostTensors, padded, sliceOf, stacked, times } from "./host-tensor.ts";
import { targetsOf } from "./sites.ts";

/** y += scale B A x: a [r, in], b [out, r]. */
export interface LoraPair {
  readonly a: HostTensor;
  readonly b: HostTensor;
  /** alpha / r. */
  readonly scale: number;
}

/** Pairs by the name of their site or module. */
export type LoraPairs = ReadonlyMap<string, LoraPair>;

const WEIGHT = /^(.+)\.lora\.lora_(A|B)\.weight$/;

export function isLoraTensor(name: string): boolean {
  return WEIGHT.test(name);
}

/** The pairs of a merged or plain LoRA, by site. */
export function loraPairs({ config, tensors }: AdapterFile): LoraPairs {
  const pairs = new Map<string, LoraPair>();
  for (const [name, a] of tensors) {
    const [, site, side] = WEIGHT.exec(name) ?? [];
    if (!site || side !== "A") continue;
    const b = tensors.get(`${site}.lora.lora_B.weight`);
    if (!b) throw new FormatError(`adapter: ${site} has lora_A and no lora_B`);
    pairs.set(site, { a: sliceOf(a, 0), b: sliceOf(b, 0), scale: scaleOf(config.peft) });
  }
  return pairs;
}

function scaleOf(peft: AdapterConfigFile["peft"]): number {
  const { rank, alpha, rankStabilised } = peft ?? {};
  if (typeof rank !== "number" || typeof alpha !== "number")
    throw new FormatError(
      `adapter: a LoRA whose config has rank ${JSON.stringify(rank)}, alpha ${JSON.stringify(alpha)}; expected numbers`,
    );
  return alpha / (rankStabilised === true ? Math.sqrt(rank) : rank);
}

export interface EvenLora {
  readonly rank: number;
  readonly alpha: number;
  /** All of that rank and of the scale alpha / rank. */
  readonly pairs: LoraPairs;
}

/**
 * The same update with one rank and one factor for all: the largest rank, smaller ones padded with zeros; where
 * factors differ, B takes up the difference.
 */
export function evenLora(pairs: LoraPairs): EvenLora {
  const [first] = pairs.values();
  if (!first) throw new FormatError("adapter: it holds no LoRA");
  const { scale } = first;
  const rank = Math.max(...[...pairs.values()].map(({ a }) => a.shape[0] ?? 0));
  const even = new Map<string, LoraPair>();
  for (const [name, { a, b, scale: own }] of pairs) {
    const grown = padded(times(b, own / scale), [b.shape[0] ?? 0, rank]);
    even.set(name, { a: padded(a, [rank, a.shape[1] ?? 0]), b: grown, scale });
  }
  return { rank, alpha: round(scale * rank), pairs: even };
}

/** A product of two numbers that went through a division: 16 / 6 * 6 is 16. */
function round(x: number): number {
  const whole = Math.round(x);
  return Math.abs(x - whole) < 1e-9 * Math.abs(x) ? whole : x;
}

/** A plain LoRA as an adapter of this package. `trained`: head and the like. */
export function loraFile(
  provenance: Provenance,
  pairs: LoraPairs,
  trained: HostTensors,
  dropout = 0,
): AdapterFile {
  const even = evenLora(pairs);
  const tensors = new Map<string, HostTensor>(trained);
  for (const [site, { a, b }] of even.pairs) {
    tensors.set(`${site}.lora.lora_A.weight`, stacked([a]));
    tensors.set(`${site}.lora.lora_B.weight`, stacked([b]));
  }
  const { rank, alpha } = even;
  const targets = targetsOf([...pairs.keys()], provenance.model);
  const peft = { method: "lora", rank, alpha, dropout, experts: 1, share: "up", init: "distinct", targets };
  return { config: { ...provenance, peft }, tensors };
}
