import { knownOptions, type OptionNames } from "../array/index.ts";
import { embedding, noGrad, Parameter, type Stream, tensor, tidy } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { type EmbeddedSite, initNormal, Module } from "../nn/index.ts";
import type { PeftMethod } from "./method.ts";

export interface PromptConfig {
  /** How many virtual tokens go in front of every text. They take as many of the model's positions. */
  readonly tokens: number;
  /** What they start as: words of the vocabulary, drawn with equal chances ("words", default), or N(0, initStd). */
  readonly init?: "words" | "normal";
  /** Of init "normal". Default 0.02. */
  readonly initStd?: number;
}
const NAMES: OptionNames<PromptConfig> = { tokens: true, init: true, initStd: true };

/** Rows [P, C] in place of word embeddings. */
class Prompt extends Module {
  readonly tokens: Parameter;

  constructor(tokens: Parameter) {
    super();
    this.tokens = tokens;
  }
}

/**
 * Prompt tuning (Lester et al. 2021): P learned rows before the embedded words of every text. The model gives them its
 * first positions and the first segment, every token sees them, and their own outputs are cut off.
 */
export function prompt(config: PromptConfig): PeftMethod {
  const { tokens, init = "words", initStd = 0.02 } = knownOptions("prompt", config, NAMES);
  expectTokenCount("prompt", tokens);
  if (init !== "words" && init !== "normal")
    throw new ShapeError(`prompt: init is "${init}", expected "words" or "normal"`);
  const method: PeftMethod = {
    name: "prompt",
    config: { method: "prompt", tokens, init, initStd },
    targets: ["embedded"],
    virtualTokens: tokens,
    experts: { down: 1, up: 1 },
    build(gpu, site, stream) {
      if (site.kind !== "embedded")
        throw new ShapeError(`prompt: "${site.name}" is not where embedded words are`);
      const rows = Parameter.zeros(gpu, [tokens, site.channels]);
      if (init === "normal") initNormal(rows, stream, initStd);
      else takeWords(rows, site, stream);
      return new Prompt(rows);
    },
    attach(set, site, module) {
      if (site.kind !== "embedded" || !(module instanceof Prompt)) return;
      site.attach(set, { count: tokens, rows: () => module.tokens });
    },
    merged: () => method,
    fold: "it adds tokens to texts; keep the set attached",
  };
  return method;
}

export function expectTokenCount(method: string, tokens: number): void {
  if (!Number.isInteger(tokens) || tokens < 1)
    throw new ShapeError(`${method}: tokens is ${tokens}, expected a whole number of 1 or more`);
}

function takeWords(rows: Parameter, { words }: EmbeddedSite, stream: Stream): void {
  const [count, vocabulary] = [rows.shape[0] as number, words.shape[0] as number];
  const ids = Int32Array.from({ length: count }, (_, i) => stream.integer(vocabulary, i));
  noGrad(() => tidy(() => rows.setTo(embedding(words, tensor(words.gpu, ids)))));
}
