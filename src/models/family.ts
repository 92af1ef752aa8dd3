// What each family of models says about itself, so that a checkpoint can be opened without knowing which it is.
import type { Gpu } from "../array/index.ts";
import type { Module } from "../nn/index.ts";
import type { CausalLM } from "./causal-lm.ts";
import type { MaskedLanguageModel, SequenceClassifier } from "./encoder.ts";

/** Which model each task gives. */
export interface TaskModels {
  readonly "sequence-classification": SequenceClassifier;
  readonly "masked-lm": MaskedLanguageModel;
  readonly "causal-lm": CausalLM;
}
export type ModelTask = keyof TaskModels;

/** A model of a family with the head for one task. */
export interface ModelHead<Config, Model extends Module> {
  make(gpu: Gpu, config: Config): Model;
  /** Parameters of the head, which another task replaces. */
  readonly head: RegExp;
  /** Whether the head stays frozen with the rest, and is stored in halves with it. Default: no, it trains. */
  readonly frozenHead?: boolean;
  /** Parameters that a file may lack: they are initialised afresh, which is told. */
  readonly mayBeAbsent: RegExp;
  /** Names of a file that this model has no use for. */
  readonly mayBeIgnored: RegExp;
}

/** A family of models: one value of `model_type` in config.json. */
export interface ModelFamily<Config = unknown> {
  readonly modelType: string;
  /** Other values of `model_type`, or of "model" where that is absent, that mean the same. */
  readonly otherTypes?: readonly string[];
  /** Whose checkpoints are read: values of `architectures` in config.json. */
  readonly architectures: readonly string[];
  /** Throws FormatError for what is missing or not supported. */
  parseConfig(json: unknown, overrides?: object): Config;
  /** The longest sequence, in tokens. */
  longest(config: Config): number;
  /** The name under which models of the family know a tensor of a file: old names and missing prefixes. */
  rename(name: string): string;
  readonly heads: { readonly [Task in ModelTask]?: ModelHead<Config, TaskModels[Task]> };
}

/** Checks a family against the type of its config, which those who open it need not know. */
export function defineFamily<Config>(family: ModelFamily<Config>): ModelFamily {
  return family;
}

/** Old names of LayerNorms: gamma and beta. */
export function modernName(name: string): string {
  return name
    .replace(/(LayerNorm|layer_norm)\.gamma$/, "$1.weight")
    .replace(/(LayerNorm|layer_norm)\.beta$/, "$1.bias");
}

/** Puts the prefix of the bare encoder where a file of the bare encoder lacks it. */
export function withPrefix(name: string, prefix: string): string {
  return /^(embeddings|encoder|pooler)\./.test(name) ? `${prefix}.${name}` : name;
}
