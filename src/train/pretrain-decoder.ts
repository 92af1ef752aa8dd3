import type { Gpu } from "../array/index.ts";
import { Stream } from "../autograd/index.ts";
import { bpeTokenizer, mergesTxt, PackedTexts, type Tokenizer, trainBpe, vocabJson } from "../data/index.ts";
import { ShapeError } from "../gpu/index.ts";
import {
  decodeSafetensors,
  encodeSafetensors,
  FormatError,
  loadStateDict,
  readStateDict,
} from "../io/index.ts";
import {
  type CausalLM,
  Gpt2LMHeadModel,
  LlamaForCausalLM,
  parseGpt2Config,
  parseLlamaConfig,
} from "../models/index.ts";
import { countParameters } from "../nn/index.ts";
import type { DecoderRecipe } from "./decoder-recipe.ts";
import { checkKernelRecord, type KernelRecord } from "./kernel-record.ts";
import { decodeAdamW, encodeAdamW } from "./optimiser-file.ts";
import {
  type CausalTrainingState,
  evaluateCausalLm,
  initCausalWeights,
  pretrainCausalLm,
} from "./pretrain-causal.ts";
import type { PretrainReport } from "./pretrain-loop.ts";
import { KERNELS_FILE } from "./run-folder.ts";
import type { KernelOptions, TuningOptions } from "./tuning.ts";

/** The token that ends a text and begins the next; spelt out in a text it does the same. */
export const END_OF_TEXT = "<|endoftext|>";

const OPTIMISER_FILE = "optimizer.safetensors";
/** What a folder must have to go on from it. */
export const CHECKPOINT_FILES = [
  "training.json",
  "vocab.json",
  "merges.txt",
  "model.safetensors",
  OPTIMISER_FILE,
] as const;

export interface DecoderTexts {
  readonly train: readonly string[];
  readonly held: readonly string[];
}

export interface HeldOutScores {
  /** Nats for each token. */
  readonly loss: number;
  /** The same for each byte of text, in bits: comparable between vocabularies. */
  readonly bitsPerByte: number;
}

/** Files of a model's folder by name. */
export type FolderFiles = Map<string, Uint8Array | string>;

export interface DecoderHooks extends Pick<KernelOptions, "kernels"> {
  /** See fineTune: times kernels before the first step. Told what they are. */
  readonly tune?: TuningOptions | undefined;
  readonly onStart?: (made: { readonly parameters: number; readonly tokens: number }) => void;
  readonly onReport?: (report: PretrainReport) => void;
  readonly reportEvery?: number | undefined;
  /** Scores the model on the texts held out. */
  readonly evaluate?: {
    readonly everySteps: number;
    readonly onScores: (step: number, scores: HeldOutScores) => void;
  };
  /** Given the files of a folder from which training can go on. */
  readonly checkpoint?: { readonly everySteps: number; readonly save: (files: FolderFiles) => void };
  /** The files of such a folder, to go on from, by the kernels that it began with. Recipe and texts must be the same. */
  readonly from?: ReadonlyMap<string, Uint8Array> | undefined;
}

export interface PretrainedDecoder extends HeldOutScores {
  /**
   * config.json, vocab.json, merges.txt, tokenizer_config.json, model.safetensors (f32) and training.json; kernels.json
   * where kernels were tuned or given.
   */
  readonly files: FolderFiles;
}

/** training.json: how the model was made, and how far. */
export interface DecoderTraining {
  readonly recipe: DecoderRecipe;
  /** Steps that were taken. */
  readonly step: number;
  /** Of the tokens trained on, see PackedTexts. */
  readonly fingerprint: string;
  readonly adapter: string;
  readonly heldOut?: HeldOutScores;
}

/** Trains a byte-level BPE tokenizer and a causal language model on texts, and scores it on texts held out. */
export async function pretrainDecoder(
  gpu: Gpu,
  recipe: DecoderRecipe,
  texts: DecoderTexts,
  hooks: DecoderHooks = {},
): Promise<PretrainedDecoder> {
  const vocabulary = hooks.from ? savedVocabulary(hooks.from) : learnVocabulary(recipe, texts.train);
  const { tokenizer } = vocabulary;
  const rows = pack(tokenizer, texts.train, recipe.maxLength);
  const held = packHeld(tokenizer, texts.held, recipe.maxLength);
  const training = { recipe, fingerprint: rows.fingerprint(), adapter: gpu.device.traits.name };
  let kernels = kernelsOf(hooks);
  const model = makeDecoder(gpu, recipe, tokenizer);
  const filesOf = async (progress: Pick<DecoderTraining, "step" | "heldOut">): Promise<FolderFiles> =>
    new Map<string, Uint8Array | string>([
      ...vocabulary.files,
      ["config.json", jsonText(configJson(model, recipe, tokenizer))],
      [
        "model.safetensors",
        encodeSafetensors(await readStateDict(model.namedParameters()), { format: "pt" }),
      ],
      ["training.json", jsonText({ ...training, ...progress } satisfies DecoderTraining)],
      ...(kernels ? ([[KERNELS_FILE, jsonText(kernels)]] as const) : []),
    ]);
  const onTuned = (record: KernelRecord): void => {
    kernels = record;
    hooks.tune?.onTuned?.(record);
  };
  try {
    const from = hooks.from && restore(model, hooks.from, training);
    hooks.onStart?.({ parameters: countParameters(model.parameters()), tokens: rows.tokens });
    const score = async (): Promise<HeldOutScores> => held.scores(await evaluateCausalLm(model, held.rows));
    await pretrainCausalLm(gpu, model, {
      ...recipe,
      rows,
      from,
      ...(kernels && { kernels }),
      tune: hooks.tune ? { ...hooks.tune, onTuned } : false,
      onReport: (report) => hooks.onReport?.(report),
      ...(hooks.reportEvery !== undefined && { reportEvery: hooks.reportEvery }),
      afterStep: async (step, state) => {
        if (step === recipe.steps) return;
        const { evaluate, checkpoint } = hooks;
        if (evaluate && step % evaluate.everySteps === 0) evaluate.onScores(step, await score());
        if (!checkpoint || step % checkpoint.everySteps !== 0) return;
        const { optimiser } = await state();
        const files = await filesOf({ step });
        checkpoint.save(files.set(OPTIMISER_FILE, encodeAdamW(optimiser)));
      },
    });
    const scores = await score();
    return { files: await filesOf({ step: recipe.steps, heldOut: scores }), ...scores };
  } finally {
    model.dispose();
  }
}

interface Vocabulary {
  readonly tokenizer: Tokenizer;
  readonly files: readonly (readonly [name: string, text: string])[];
}

function learnVocabulary({ vocabSize }: DecoderRecipe, texts: readonly string[]): Vocabulary {
  const pieces = texts.flatMap((text) => text.split(END_OF_TEXT));
  const bpe = trainBpe(pieces, { vocabSize, specials: [END_OF_TEXT], addPrefixSpace: false });
  return vocabularyOf(vocabJson(bpe), mergesTxt(bpe));
}

function savedVocabulary(files: ReadonlyMap<string, Uint8Array>): Vocabulary {
  return vocabularyOf(textOf(files, "vocab.json"), textOf(files, "merges.txt"));
}

function vocabularyOf(vocab: string, merges: string): Vocabulary {
  const tokenizer = bpeTokenizer(vocab, merges, { template: "none" });
  const settings = {
    tokenizer_class: "GPT2Tokenizer", // Python's name for byte-level BPE, whatever the model
    add_prefix_space: false,
    bos_token: END_OF_TEXT,
    eos_token: END_OF_TEXT,
    unk_token: END_OF_TEXT,
  };
  return {
    tokenizer,
    files: [
      ["vocab.json", vocab],
      ["merges.txt", merges],
      ["tokenizer_config.json", jsonText(settings)],
    ],
  };
}

/** The model of a recipe, its weights drawn from the seed. */
function makeDecoder(gpu: Gpu, recipe: DecoderRecipe, tokenizer: Tokenizer): CausalLM {
  const { architecture, dropout, seed } = recipe;
  const shared = {
    vocab_size: tokenizer.vocabSize,
    eos_token_id: tokenizer.eosId,
    tie_word_embeddings: true,
  };
  const model =
    architecture === "gpt2"
      ? new Gpt2LMHeadModel(
          gpu,
          parseGpt2Config({
            ...shared,
            model_type: "gpt2",
            n_positions: recipe.maxLength,
            n_embd: recipe.hiddenSize,
            n_layer: recipe.layers,
            n_head: recipe.heads,
            n_inner: recipe.intermediateSize,
            embd_pdrop: dropout,
            resid_pdrop: dropout,
            attn_pdrop: dropout,
          }),
        )
      : new LlamaForCausalLM(
          gpu,
          parseLlamaConfig({
            ...shared,
            model_type: "llama",
            max_position_embeddings: recipe.maxLength,
            hidden_size: recipe.hiddenSize,
            num_hidden_layers: recipe.layers,
            num_attention_heads: recipe.heads,
            num_key_value_heads: recipe.keyValueHeads,
            intermediate_size: recipe.intermediateSize,
            attention_dropout: dropout,
          }),
        );
  initCausalWeights(model, Stream.seed(seed).fold("init"), recipe.initStd);
  return model;
}

function pack(tokenizer: Tokenizer, texts: readonly string[], length: number): PackedTexts {
  const endId = tokenizer.eosId ?? 0; // vocabularyOf names one
  return new PackedTexts(
    texts.map((text) => tokenizer.encode(text)),
    { length, endId },
  );
}

/** Rows of texts held out, shorter where these fill none, and how their loss is told. */
function packHeld(tokenizer: Tokenizer, texts: readonly string[], maxLength: number) {
  const { tokens } = pack(tokenizer, texts, 1);
  const rows = pack(tokenizer, texts, Math.min(maxLength, tokens - 1));
  const bytes = texts.reduce((n, text) => n + new TextEncoder().encode(text).length, 0);
  const scores = ({ loss }: { readonly loss: number }): HeldOutScores => ({
    loss,
    bitsPerByte: (loss * (tokens - 1)) / (Math.LN2 * bytes),
  });
  return { rows, scores };
}

/** The kernels to begin with, or to go on with: those of the training so far. */
function kernelsOf({ from, tune, kernels }: DecoderHooks): KernelRecord | null {
  if (!from) return kernels ?? null;
  if (tune || kernels)
    throw new ShapeError(
      `pretrain: training goes on with the kernels that it began with; leave ${tune ? "tune" : "kernels"} out`,
    );
  return from.has(KERNELS_FILE)
    ? checkKernelRecord(JSON.parse(textOf(from, KERNELS_FILE)), `pretrain: ${KERNELS_FILE}`)
    : null;
}

/** Puts the parameters of a checkpoint into the model, and gives the rest of its state. */
function restore(
  model: CausalLM,
  files: ReadonlyMap<string, Uint8Array>,
  now: Pick<DecoderTraining, "recipe" | "fingerprint">,
): CausalTrainingState {
  const was = JSON.parse(textOf(files, "training.json")) as DecoderTraining;
  if (was.fingerprint !== now.fingerprint)
    throw new FormatError(
      `pretrain: the tokens of these texts are not those that training began with (${now.fingerprint}, were ${was.fingerprint}); give the same texts, or train anew`,
    );
  const { tensors } = decodeSafetensors(fileOf(files, "model.safetensors"));
  loadStateDict(model.stateDict(), tensors, { what: "model.safetensors" });
  return { step: was.step, optimiser: decodeAdamW(fileOf(files, OPTIMISER_FILE)) };
}

function configJson(model: CausalLM, { initStd }: DecoderRecipe, { bosId }: Tokenizer): object {
  return {
    architectures: [model.architecture],
    ...model.config,
    bos_token_id: bosId,
    initializer_range: initStd,
    torch_dtype: "float32",
  };
}

const jsonText = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;

function textOf(files: ReadonlyMap<string, Uint8Array>, name: string): string {
  return new TextDecoder().decode(fileOf(files, name));
}

function fileOf(files: ReadonlyMap<string, Uint8Array>, name: string): Uint8Array {
  const bytes = files.get(name);
  if (!bytes)
    throw new FormatError(`pretrain: no ${name} to go on from; it has ${[...files.keys()].join(", ")}`);
  return bytes;
}
