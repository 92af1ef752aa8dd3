import type { Gpu } from "../array/index.ts";
import { add, attention, drawOf, matmul, Parameter, type Tensor, tidy } from "../autograd/index.ts";
import { loadStateDict, type RawTensor } from "../io/index.ts";
import {
  Embedding,
  LayerNorm,
  LinearSite,
  Module,
  maybeDropout,
  OutputSite,
  type Site,
} from "../nn/index.ts";
import {
  CausalHead,
  type CausalInput,
  type CausalLM,
  type CausalOptions,
  expectTokens,
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

  forward(x: Tensor, activation?: Gpt2Activation): Tensor {
    return matmul(x, this.weight, { bias: this.bias, activation });
  }
}

const PARTS = ["query", "key", "value"] as const;

/** Causal self-attention. Queries, keys and values are thirds of one product, each with a site of its own. */
class Gpt2Attention extends Module {
  readonly c_attn: Conv1D;
  readonly c_proj: Conv1D;
  readonly #slices: readonly LinearSite[];
  readonly #output: OutputSite;
  readonly #config: Gpt2Config;
  readonly #layer: number;

  constructor(gpu: Gpu, c: Gpt2Config, layer: number, name: string) {
    super();
    this.c_attn = new Conv1D(gpu, c.n_embd, 3 * c.n_embd);
    this.c_proj = new Conv1D(gpu, c.n_embd, c.n_embd);
    const sizes = { inputs: c.n_embd, outputs: c.n_embd };
    this.#slices = PARTS.map((part) => new LinearSite({ name: `${name}.c_attn.${part}`, layer }, sizes));
    this.#output = new OutputSite({ name: `${name}.output`, layer }, c.n_embd);
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return [...this.#slices, this.#output];
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
    const attended = attention(q, cached?.keys ?? k, cached?.values ?? v, mask, {
      heads,
      causal: true,
      scale: scoreScale(this.#config, this.#layer),
      keyLength: cached?.keyLength,
      dropout:
        options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined,
    });
    return this.#output.apply({ value: this.c_proj.forward(attended), residual, layerNorm }, options);
  }
}

function scoreScale(c: Gpt2Config, layer: number): number {
  const scale = c.scale_attn_weights ? 1 / Math.sqrt(c.n_embd / c.n_head) : 1;
  return c.scale_attn_by_inverse_layer_idx ? scale / (layer + 1) : scale;
}

class Gpt2Mlp extends Module {
  readonly c_fc: Conv1D;
  readonly c_proj: Conv1D;
  readonly #output: OutputSite;
  readonly #activation: Gpt2Activation;

  constructor(gpu: Gpu, c: Gpt2Config, layer: number, name: string) {
    super();
    this.c_fc = new Conv1D(gpu, c.n_embd, c.n_inner);
    this.c_proj = new Conv1D(gpu, c.n_inner, c.n_embd);
    this.#output = new OutputSite({ name: `${name}.output`, layer }, c.n_embd);
    this.#activation = gpt2Activation(c);
  }

  sites(): Site[] {
    return [this.#output];
  }

  forward(residual: Tensor, layerNorm: LayerNorm, options: CausalOptions): Tensor {
    const inner = this.c_fc.forward(layerNorm.forward(residual), this.#activation);
    return this.#output.apply({ value: this.c_proj.forward(inner), residual, layerNorm }, options);
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
  readonly #p: number;

  constructor(gpu: Gpu, c: Gpt2Config, name: string) {
    super();
    this.wte = new Embedding(gpu, c.vocab_size, c.n_embd);
    this.wpe = new Embedding(gpu, c.n_positions, c.n_embd);
    this.h = Array.from({ length: c.n_layer }, (_, i) => new Gpt2Block(gpu, c, i, `${name}.h.${i}`));
    this.ln_f = new LayerNorm(gpu, c.n_embd, { eps: c.layer_norm_epsilon });
    this.#p = c.embd_pdrop;
  }

  forward(
    { inputIds, positionIds, attentionMask }: CausalInput,
    options: CausalOptions,
    onHidden?: (hidden: Tensor) => void,
  ): Tensor {
    let x = tidy(() => {
      const sum = add(this.wte.forward(inputIds), this.wpe.forward(positionIds));
      return maybeDropout(sum, this.#p, options, "embeddings");
    });
    onHidden?.(x);
    for (const block of this.h) {
      const before = x;
      x = tidy(() => block.forward(before, attentionMask, options));
      if (onHidden) onHidden(x);
      else before.dispose(); // What backward needs of it lives on.
    }
    options.cache?.advance(inputIds.shape[1] as number);
    const y = this.ln_f.forward(x);
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

  get stopTokens(): readonly number[] {
    return idsIn(this.#config.eos_token_id);
  }

  get cacheShape(): { readonly layers: number; readonly channels: number } {
    return { layers: this.#config.n_layer, channels: this.#config.n_embd };
  }

  sites(): Site[] {
    return this.transformer.h.flatMap((block) => block.sites());
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
