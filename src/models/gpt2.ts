import type { Gpu } from "../array/index.ts";
import { add, attention, drawOf, matmul, Parameter, type Tensor, tidy } from "../autograd/index.ts";
import { loadStateDict, type RawTensor } from "../io/index.ts";
import {
  type Activation,
  EmbeddedSite,
  Embedding,
  KeysValuesSite,
  LayerNorm,
  LinearSite,
  Module,
  maybeDropout,
  OutputSite,
  type Site,
  type SitePlace,
  throughLayer,
} from "../nn/index.ts";
import {
  CausalHead,
  type CausalInput,
  type CausalLM,
  type CausalOptions,
  expectTokens,
  prefixedPass,
  withoutFront,
} from "./causal-lm.ts";
import { idsIn } from "./config-reader.ts";
import { defineFamily } from "./family.ts";
import { type Gpt2Activation, type Gpt2Config, gpt2Activation, parseGpt2Config } from "./gpt2-config.ts";

/** y = f(x weight + bias), f an activation or none: x [..., in] -> [..., out]. weight [in, out], as GPT-2 stores it. */
class Conv1D extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;

  constructor(gpu: Gpu, inputs: number, outputs: number) {
    super();
    this.weight = Parameter.zeros(gpu, [inputs, outputs]);
    this.bias = Parameter.zeros(gpu, [outputs]);
  }

  get isTransposed(): boolean {
    return true;
  }

  forward(x: Tensor, { activation }: { activation?: Activation } = {}): Tensor {
    return matmul(x, this.weight, { bias: this.bias, activation });
  }
}

const PARTS = ["query", "key", "value"] as const;

/** Causal self-attention. Queries, keys and values are thirds of one product, each with a site of its own. */
class Gpt2Attention extends Module {
  readonly c_attn: Conv1D;
  readonly c_proj: Conv1D;
  readonly #slices: readonly LinearSite[];
  readonly #keysValues: KeysValuesSite;
  readonly #dense: LinearSite;
  readonly #output: OutputSite;
  readonly #config: Gpt2Config;
  readonly #layer: number;

  constructor(gpu: Gpu, c: Gpt2Config, layer: number, name: string) {
    super();
    this.c_attn = new Conv1D(gpu, c.n_embd, 3 * c.n_embd);
    this.c_proj = new Conv1D(gpu, c.n_embd, c.n_embd);
    const C = c.n_embd;
    this.#slices = PARTS.map(
      (role, i) =>
        new LinearSite(
          { name: `${name}.c_attn.${role}`, layer, role },
          { of: this.c_attn, start: i * C, outputs: C },
        ),
    );
    this.#keysValues = new KeysValuesSite(
      { name: `${name}.keysValues`, layer, role: "keysValues" },
      { inputs: C, channels: C, isCausal: true },
    );
    this.#dense = new LinearSite({ name: `${name}.c_proj`, layer, role: "attentionOutput" }, this.c_proj);
    this.#output = outputSite(c, { name: `${name}.output`, layer, role: "attention" });
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return [...this.#slices, this.#keysValues, this.#dense, this.#output];
  }

  /** Of x = layerNorm(residual): adapt(c_proj(attention)), before dropout and residual. */
  forward(residual: Tensor, layerNorm: LayerNorm, mask: Tensor | null, options: CausalOptions): Tensor {
    const { n_head: heads, n_embd: channels, attn_pdrop: p } = this.#config;
    const x = layerNorm.forward(residual);
    const fused = this.c_attn.forward(x); // [B, T, 3C]
    const [q, k, v] = this.#slices.map((site, i) =>
      site.apply(fused.slice(2, i * channels, (i + 1) * channels), x, options),
    ) as [Tensor, Tensor, Tensor];
    const cached = options.cache?.append(this.#layer, k, v);
    const own = cached ? { ...cached, mask } : { keys: k, values: v, mask };
    const all = this.#keysValues.apply(own, x, options);
    const attended = attention(q, all.keys, all.values, all.mask, {
      heads,
      causal: true,
      scale: scoreScale(this.#config, this.#layer),
      keyLength: all.keyLength,
      dropout:
        options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined,
    });
    const value = this.#dense.forward(attended, options);
    return this.#output.apply({ value, residual, layerNorm }, options);
  }
}

function outputSite(c: Gpt2Config, place: SitePlace): OutputSite {
  return new OutputSite(place, c.n_embd, { activation: gpt2Activation(c) });
}

function scoreScale(c: Gpt2Config, layer: number): number {
  const scale = c.scale_attn_weights ? 1 / Math.sqrt(c.n_embd / c.n_head) : 1;
  return c.scale_attn_by_inverse_layer_idx ? scale / (layer + 1) : scale;
}

class Gpt2Mlp extends Module {
  readonly c_fc: Conv1D;
  readonly c_proj: Conv1D;
  readonly #inner: LinearSite;
  readonly #dense: LinearSite;
  readonly #output: OutputSite;
  readonly #activation: Gpt2Activation;

  constructor(gpu: Gpu, c: Gpt2Config, layer: number, name: string) {
    super();
    this.c_fc = new Conv1D(gpu, c.n_embd, c.n_inner);
    this.c_proj = new Conv1D(gpu, c.n_inner, c.n_embd);
    this.#inner = new LinearSite({ name: `${name}.c_fc`, layer, role: "feedForwardInner" }, this.c_fc);
    this.#dense = new LinearSite({ name: `${name}.c_proj`, layer, role: "feedForwardOutput" }, this.c_proj);
    this.#output = outputSite(c, { name: `${name}.output`, layer, role: "feedForward" });
    this.#activation = gpt2Activation(c);
  }

  sites(): Site[] {
    return [this.#inner, this.#dense, this.#output];
  }

  forward(residual: Tensor, layerNorm: LayerNorm, options: CausalOptions): Tensor {
    const inner = this.#inner.forward(layerNorm.forward(residual), options, this.#activation);
    const value = this.#dense.forward(inner, options);
    return this.#output.apply({ value, residual, layerNorm }, options);
  }
}

/** A pre-normalised Transformer layer: x + attn(ln_1(x)), then the same with mlp and ln_2. */
class Gpt2Block extends Module {
  readonly ln_1: LayerNorm;
  readonly attn: Gpt2Attention;
  readonly ln_2: LayerNorm;
  readonly mlp: Gpt2Mlp;
  readonly #p: number;
  readonly #name: string;

  constructor(gpu: Gpu, c: Gpt2Config, layer: number, name: string) {
    super();
    const eps = { eps: c.layer_norm_epsilon };
    this.ln_1 = new LayerNorm(gpu, c.n_embd, eps);
    this.attn = new Gpt2Attention(gpu, c, layer, `${name}.attn`);
    this.ln_2 = new LayerNorm(gpu, c.n_embd, eps);
    this.mlp = new Gpt2Mlp(gpu, c, layer, `${name}.mlp`);
    this.#p = c.resid_pdrop;
    this.#name = name;
  }

  sites(): Site[] {
    return [...this.attn.sites(), ...this.mlp.sites()];
  }

  forward(x: Tensor, mask: Tensor | null, options: CausalOptions): Tensor {
    const attended = this.attn.forward(x, this.ln_1, mask, options);
    const middle = add(x, maybeDropout(attended, this.#p, options, this.#name, "attn"));
    const inner = this.mlp.forward(middle, this.ln_2, options);
    return add(middle, maybeDropout(inner, this.#p, options, this.#name, "mlp"));
  }
}

/** Embeddings, layers and the last LayerNorm. */
class Gpt2Model extends Module {
  readonly wte: Embedding;
  readonly wpe: Embedding;
  readonly h: readonly Gpt2Block[];
  readonly ln_f: LayerNorm;
  readonly #embedded: EmbeddedSite;
  readonly #config: Gpt2Config;

  constructor(gpu: Gpu, c: Gpt2Config, name: string) {
    super();
    this.wte = new Embedding(gpu, c.vocab_size, c.n_embd);
    this.wpe = new Embedding(gpu, c.n_positions, c.n_embd);
    this.h = Array.from({ length: c.n_layer }, (_, i) => new Gpt2Block(gpu, c, i, `${name}.h.${i}`));
    this.ln_f = new LayerNorm(gpu, c.n_embd, { eps: c.layer_norm_epsilon });
    const place = { name: `${name}.embedded`, layer: -1, role: "embedded" } as const;
    this.#embedded = new EmbeddedSite(place, this.wte.weight);
    this.#config = c;
  }

  get virtualTokens(): number {
    return this.#embedded.virtualTokens;
  }

  sites(): Site[] {
    return [...this.h.flatMap((block) => block.sites()), this.#embedded];
  }

  forward(input: CausalInput, options: CausalOptions, onHidden?: (hidden: Tensor) => void): Tensor {
    const { n_positions: limit, embd_pdrop: p } = this.#config;
    const { front, positions, mask } = prefixedPass(input, this.virtualTokens, {
      limit,
      cache: options.cache,
    });
    let x = tidy(() => {
      const words = this.wte.forward(input.inputIds);
      const tokens = front > 0 ? this.#embedded.apply(words, options) : words;
      return maybeDropout(add(tokens, this.wpe.forward(positions)), p, options, "embeddings");
    });
    onHidden?.(x);
    for (const block of this.h) {
      const before = x;
      x = throughLayer(before, options, (h) => block.forward(h, mask, options));
      if (onHidden) onHidden(x);
      else before.dispose(); // What backward needs of it lives on.
    }
    options.cache?.advance(x.shape[1] as number);
    const y = tidy(() => withoutFront(this.ln_f.forward(x), front));
    if (onHidden) onHidden(y);
    else x.dispose();
    return y;
  }
}

/** GPT-2 as a causal language model. Checkpoint names: `transformer.…`, and `lm_head.…` where it is not tied. */
export class Gpt2LMHeadModel extends Module implements CausalLM {
  readonly transformer: Gpt2Model;
  readonly lm_head: CausalHead;
  readonly #gpu: Gpu;
  readonly #config: Gpt2Config;

  constructor(gpu: Gpu, config: Gpt2Config) {
    super();
    this.transformer = new Gpt2Model(gpu, config, "transformer");
    const head = { tied: config.tie_word_embeddings, bias: config.lm_head_bias };
    this.lm_head = new CausalHead(gpu, config.vocab_size, config.n_embd, head);
    this.#gpu = gpu;
    this.#config = config;
  }

  get gpu(): Gpu {
    return this.#gpu;
  }

  get config(): Gpt2Config {
    return this.#config;
  }

  get architecture(): string {
    return "GPT2LMHeadModel";
  }

  get vocabularySize(): number {
    return this.#config.vocab_size;
  }

  get positions(): number {
    return this.#config.n_positions;
  }

  get virtualTokens(): number {
    return this.transformer.virtualTokens;
  }

  get stopTokens(): readonly number[] {
    return idsIn(this.#config.eos_token_id);
  }

  get cacheShape(): { readonly layers: number; readonly channels: number } {
    return { layers: this.#config.n_layer, channels: this.#config.n_embd };
  }

  sites(): Site[] {
    return this.transformer.sites();
  }

  hidden(input: CausalInput, options: CausalOptions = {}, onHidden?: (hidden: Tensor) => void): Tensor {
    expectTokens("gpt2", input);
    return this.transformer.forward(input, options, onHidden);
  }

  logits(hidden: Tensor): Tensor {
    return this.lm_head.forward(hidden, this.transformer.wte.weight);
  }

  forward(input: CausalInput, options: CausalOptions = {}): Tensor {
    return tidy(() => this.logits(this.hidden(input, options)));
  }
}

/** Causal masks that old files hold as buffers, and a tied head's copy of the word embeddings. */
const UNUSED = /\.attn\.(bias|masked_bias)$|^lm_head\.weight$/;

export const GPT2 = defineFamily<Gpt2Config>({
  modelType: "gpt2",
  otherTypes: ["gpt2-like"],
  architectures: ["GPT2Model", "GPT2LMHeadModel"],
  parseConfig: parseGpt2Config,
  longest: ({ n_positions: positions }) => positions,
  rename: (name) => (/^(wte|wpe|h|ln_f)\./.test(name) ? `transformer.${name}` : name),
  heads: {
    "causal-lm": {
      make: (gpu, config) => new Gpt2LMHeadModel(gpu, config),
      head: /^lm_head\./,
      frozenHead: true,
      mayBeAbsent: /^$/,
      mayBeIgnored: UNUSED,
    },
  },
});

/**
 * A GPT-2 with the weights of a checkpoint, under names with or without `transformer.`; the causal masks that old files
 * hold are left out, and a tied head's copy of the word embeddings. Anything else missing or left over is an error.
 */
export function gpt2FromTensors(
  gpu: Gpu,
  config: Gpt2Config,
  tensors: ReadonlyMap<string, RawTensor>,
  what = "gpt2",
): Gpt2LMHeadModel {
  const model = new Gpt2LMHeadModel(gpu, config);
  try {
    loadStateDict(model.stateDict(), tensors, {
      what,
      rename: GPT2.rename,
      mayBeIgnored: (name) => UNUSED.test(name),
    });
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model;
}
