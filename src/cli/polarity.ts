import type { Gpu } from "../array/index.ts";
import { noGrad } from "../autograd/index.ts";
import { bpeTokenizer, type Encoded, FEELINGS, polarityProbe, sequentialBatches } from "../data/index.ts";
import { decodeSafetensors, loadStateDict } from "../io/index.ts";
import { parseRobertaConfig, RobertaForMaskedLM } from "../models/index.ts";
import { BatchSlots } from "../train/index.ts";

export interface ProbeScore {
  readonly name: string;
  readonly n: number;
  /** Statements after which "we felt <mask>" is filled with feelings of the right kind. */
  readonly hits: number;
}

/** Asks a pretrained encoder of the demonstration language which feelings follow opinions it has never seen. */
export async function probePolarity(
  gpu: Gpu,
  files: ReadonlyMap<string, Uint8Array | string>,
): Promise<ProbeScore[]> {
  const config = parseRobertaConfig(JSON.parse(textOf(files, "config.json")));
  const tokenizer = bpeTokenizer(textOf(files, "vocab.json"), textOf(files, "merges.txt"), {
    addPrefixSpace: true,
  });
  const model = new RobertaForMaskedLM(gpu, config);
  const weights = files.get("model.safetensors") as Uint8Array; // pretrainEncoder writes bytes
  loadStateDict(model.stateDict(), decodeSafetensors(weights).tensors, { what: "model.safetensors" });
  const firstIds = (words: readonly string[]) =>
    words.map((word) => tokenizer.encode(word, null, { specials: false })[0] as number);
  const feelings = { good: firstIds(FEELINGS[1]), bad: firstIds(FEELINGS[-1]) };
  const scores: ProbeScore[] = [];
  for (const { name, examples } of polarityProbe()) {
    const encoded = examples.map(({ text, polarity }) => ({
      ids: tokenizer.encode(`${text} . we felt <mask> .`),
      label: polarity,
    }));
    const hits = await countHits(gpu, model, encoded, tokenizer.maskId ?? 0, feelings);
    scores.push({ name, n: encoded.length, hits });
  }
  model.dispose();
  return scores;
}

async function countHits(
  gpu: Gpu,
  model: RobertaForMaskedLM,
  examples: readonly Encoded[],
  maskId: number,
  feelings: { readonly good: readonly number[]; readonly bad: readonly number[] },
): Promise<number> {
  const slots = new BatchSlots(gpu, model);
  const V = model.config.vocab_size;
  let hits = 0;
  for (const batch of sequentialBatches(examples, 50, { padId: model.config.pad_token_id, multiple: 8 })) {
    const places = Int32Array.from({ length: batch.size }, (_, row) =>
      batch.inputIds.indexOf(maskId, row * batch.length),
    );
    const logits = noGrad(() => {
      const { input } = slots.load({ ...batch, labels: null });
      return model.forward(input, {}, slots.slot("places", places, [places.length]));
    });
    const values = (await logits.data()) as Float32Array;
    logits.dispose();
    for (let row = 0; row < batch.valid; row++) {
      const best = (ids: readonly number[]) => Math.max(...ids.map((id) => values[row * V + id] as number));
      const felt = best(feelings.good) > best(feelings.bad) ? 1 : -1;
      if (felt === examples[batch.indices[row] as number]?.label) hits++;
    }
  }
  slots.dispose();
  return hits;
}

function textOf(files: ReadonlyMap<string, Uint8Array | string>, name: string): string {
  const content = files.get(name);
  return typeof content === "string" ? content : new TextDecoder().decode(content);
}
