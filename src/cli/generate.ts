import type { HalfType } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import { beamSearch, type CausalLM, generate as generateText } from "../models/index.ts";
import { openCausalFolder } from "../train/index.ts";
import { downloadProgress } from "./download.ts";
import { UsageError } from "./failure.ts";
import { withGpu } from "./session.ts";

export interface GenerateCommand {
  readonly path: string;
  readonly prompt: string;
  /** Default: 64, or as many as the model has positions for. */
  readonly maxNew: number | undefined;
  /** 0 or undefined without topK and topP: the likeliest token each time. */
  readonly temperature: number | undefined;
  readonly topK: number | undefined;
  readonly topP: number | undefined;
  readonly beams: number | undefined;
  readonly lengthPenalty: number | undefined;
  readonly blockNgrams: number | undefined;
  readonly seed: number;
  readonly dtype: "f32" | HalfType | undefined;
  readonly device: string | undefined;
}

const USUAL_LENGTH = 64;

/** Prints a prompt and how a causal language model continues it: token by token, or all at once after beam search. */
export async function generate(command: GenerateCommand): Promise<void> {
  checkFlags(command);
  const { path, prompt, dtype, device } = command;
  const progress = downloadProgress();
  const source = await openCausalFolder(path, { onProgress: progress.update }).finally(progress.stop);
  const { tokenizer } = source;
  const { bosId, eosId } = tokenizer;
  const encoded = tokenizer.encode(prompt);
  const ids = encoded.length === 0 && bosId !== null ? Int32Array.of(bosId) : encoded;
  if (ids.length === 0)
    throw new UsageError("generate: --prompt is empty, and no token of this model begins texts");
  const maxNew = lengthOf(ids.length, source.positions, command.maxNew);
  await withGpu(device, async (gpu) => {
    const model = await source.load(gpu, { dtype });
    const stopTokens = [...new Set([...model.stopTokens, ...(eosId === null ? [] : [eosId])])];
    const shown = new StreamedText((list) => tokenizer.decode(list), ids);
    shown.flush();
    await continueText(model, ids, { ...command, maxNew, stopTokens }, (token) => {
      // Embeddings may have more rows than the vocabulary has tokens.
      if (!stopTokens.includes(token) && tokenizer.tokenOf(token) !== undefined) shown.push(token);
    });
    shown.end();
  });
}

/** How many tokens are made: as many as asked for, or the usual number where the model has positions for it. */
function lengthOf(prompt: number, positions: number, wanted: number | undefined): number {
  const room = positions - prompt + 1; // the last new token is never fed back
  if (room < 1)
    throw new UsageError(
      `generate: --prompt has ${prompt} tokens; the model has positions for ${positions} (cut it)`,
    );
  if (wanted === undefined) return Math.min(USUAL_LENGTH, room);
  if (wanted <= room) return wanted;
  throw new UsageError(
    `generate: --max-new is ${wanted} after a prompt of ${prompt}; the model has positions for ${positions}, so ask for ${room} at most`,
  );
}

type Settings = GenerateCommand & { readonly maxNew: number; readonly stopTokens: readonly number[] };

async function continueText(
  model: CausalLM,
  ids: Int32Array,
  settings: Settings,
  onToken: (token: number) => void,
): Promise<void> {
  const { beams, maxNew, stopTokens, lengthPenalty, blockNgrams: noRepeatNgram } = settings;
  if (beams === undefined) {
    const sampling = samplingOf(settings);
    await generateText(model, [ids], {
      maxNew,
      stopTokens,
      sampling,
      onToken: ({ token }) => onToken(token),
    });
    return;
  }
  const [best] = await beamSearch(model, [ids], { beams, maxNew, stopTokens, lengthPenalty, noRepeatNgram });
  for (const token of best?.ids ?? []) onToken(token);
}

function samplingOf({ temperature, topK, topP, seed }: GenerateCommand) {
  const wanted = temperature !== undefined || topK !== undefined || topP !== undefined;
  if (!wanted || temperature === 0) return undefined;
  return { temperature, topK, topP, stream: Stream.seed(seed).fold("generate") };
}

function checkFlags({ temperature, topK, topP, beams, lengthPenalty, blockNgrams }: GenerateCommand): void {
  const sampled = { "--temperature": temperature, "--top-k": topK, "--top-p": topP };
  const searched = { "--length-penalty": lengthPenalty, "--block-ngrams": blockNgrams };
  const given = (flags: Readonly<Record<string, number | undefined>>): string[] =>
    Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (beams !== undefined && given(sampled).length > 0)
    throw new UsageError(
      `generate: --beams finds the best text, ${given(sampled).join(", ")} draw one; give either`,
    );
  if (beams === undefined && given(searched).length > 0)
    throw new UsageError(`generate: ${given(searched).join(", ")} without --beams`);
  if (temperature !== undefined && temperature < 0)
    throw new UsageError(`generate: --temperature is ${temperature}, expected 0 or more`);
  if (temperature === 0 && (topK !== undefined || topP !== undefined))
    throw new UsageError(
      "generate: --temperature 0 takes the likeliest token; leave --top-k and --top-p out",
    );
  if (topP !== undefined && !(topP > 0 && topP <= 1))
    throw new UsageError(`generate: --top-p is ${topP}, expected a share, 0 < p <= 1`);
}

/** Writes a text that grows by tokens: of a character whose bytes are not all there yet, nothing. */
class StreamedText {
  readonly #decode: (ids: readonly number[]) => string;
  readonly #ids: number[];
  #written = "";

  constructor(decode: (ids: readonly number[]) => string, ids: Int32Array) {
    this.#decode = decode;
    this.#ids = [...ids];
  }

  push(token: number): void {
    this.#ids.push(token);
    this.flush();
  }

  flush(): void {
    this.#write(this.#decode(this.#ids).replace(/\uFFFD+$/, ""));
  }

  end(): void {
    this.#write(`${this.#decode(this.#ids)}\n`);
  }

  #write(text: string): void {
    process.stdout.write(text.slice(this.#written.length));
    this.#written = text;
  }
}
