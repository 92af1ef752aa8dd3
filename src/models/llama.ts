import type { Gpu } from "../array/index.ts";
import {
  add,
  attention,
  drawOf,
  keep,
  mul,
  rotaryEmbedding,
  rotaryTables,
  silu,
  type Tensor,
  tensor,
  tidy,
} from "../autograd/index.ts";
import { loadStateDict, type RawTensor } from "../io/index.ts";
import { Embedding, Linear, LinearSite, Module, OutputSite, RmsNorm, type Site } from "../nn/index.ts";
import {
  CausalHead,
  type CausalInput,
  type CausalLM,
  type CausalOptions,
  expectTokens,
} from "./causal-lm.ts";
import { idsIn } from "./config-reader.ts";
import { defineFamily, type ModelFamily } from "./family.ts";
import { type LlamaConfig, parseLlamaConfig, rotaryScaling } from "./llama-config.ts";

/** cos and sin of the angles of positions, [P, D/2] each. */
interface Angles {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** What a layer is given beside its input. */
interface LayerInput {
  readonly angles: Angles;
  readonly positions: Tensor;
  readonly mask: Tensor | null;
  readonly options: CausalOptions;
}

/** Causal self-attention with turned queries and keys, whose heads of keys and values may be shared. */
class LlamaAttention extends Module {
  readonly q_proj: Linear;
  readonly k_proj: Linear;
  readonly v_proj: Linear;
  readonly o_proj: Linear;
  readonly #sites: Readonly<Record<"q" | "k" | "v" | "o", LinearSite>>;
  readonly #output: OutputSite;
  readonly #config: LlamaConfig;
  readonly #layer: number;

  constructor(gpu: Gpu, c: LlamaConfig, layer: number, name: string) {
    super();
    const qkvBias = { bias: c.model_type === "qwen2" || c.attention_bias };
    const [queries, keys] = [c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim];
    this.q_proj = new Linear(gpu, c.hidden_size, queries, qkvBias);
    this.k_proj = new Linear(gpu, c.hidden_size, keys, qkvBias);
    this.v_proj = new Linear(gpu, c.hidden_size, keys, qkvBias);
    this.o_proj = new Linear(gpu, queries, c.hidden_size, {
      bias: c.model_type === "llama" && c.attention_bias,
    });
    const site = (part: "q" | "k" | "v" | "o"): LinearSite =>
      new LinearSite({ name: `${name}.${part}_proj`, layer }, this[`${part}_proj`]);
    this.#sites = { q: site("q"), k: site("k"), v: site("v"), o: site("o") };
    this.#output = new OutputSite({ name: `${name}.output`, layer }, c.hidden_size);
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return [...Object.values(this.#sites), this.#output];
  }

  forward(residual: Tensor, layerNorm: RmsNorm, { angles, positions, mask, options }: LayerInput): Tensor {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, attention_dropout: p } = this.#config;
    const { q: queries, k: keys, v: values, o: output } = this.#sites;
    const x = layerNorm.forward(residual);
    const turned = (y: Tensor, n: number): Tensor =>
      rotaryEmbedding(y, angles.cos, angles.sin, { heads: n, positions });
    const q = turned(queries.apply(this.q_proj.forward(x), x, options), heads);
    const k = turned(keys.apply(this.k_proj.forward(x), x, options), kvHeads);
    const v = values.apply(this.v_proj.forward(x), x, options);
    const cached = options.cache?.append(this.#layer, k, v);
    const attended = attention(q, cached?.keys ?? k, cached?.values ?? v, mask, {
      heads,
      kvHeads,
      causal: true,
      keyLength: cached?.keyLength,
      dropout:
        options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined,
    });
    const value = output.apply(this.o_proj.forward(attended), attended, options);
    return this.#output.apply({ value, residual, layerNorm }, options);
  }
}

/** The gated feed-forward part: down(silu(gate(x)) · up(x)). */
class LlamaMlp extends Module {
  readonly gate_proj: Linear;
  readonly up_proj: Linear;
  readonly down_proj: Linear;
  readonly #sites: Readonly<Record<"gate" | "up" | "down", LinearSite>>;
  readonly #output: OutputSite;

  constructor(gpu: Gpu, c: LlamaConfig, layer: number, name: string) {
    super();
    const bias = { bias: c.mlp_bias };
    this.gate_proj = new Linear(gpu, c.hidden_size, c.intermediate_size, bias);
    this.up_proj = new Linear(gpu, c.hidden_size, c.intermediate_size, bias);
    this.down_proj = new Linear(gpu, c.intermediate_size, c.hidden_size, bias);
    const site = (part: "gate" | "up" | "down"): LinearSite =>
      new LinearSite({ name: `${name}.${part}_proj`, layer }, this[`${part}_proj`]);
    this.#sites = { gate: site("gate"), up: site("up"), down: site("down") };
    this.#output = new OutputSite({ name: `${name}.output`, layer }, c.hidden_size);
  }

  sites(): Site[] {
    return [...Object.values(this.#sites), this.#output];
  }

  forward(residual: Tensor, layerNorm: RmsNorm, options: CausalOptions): Tensor {
    const { gate, up, down } = this.#sites;
    const x = layerNorm.forward(residual);
    const gated = gate.isEmpty
      ? this.gate_proj.forward(x, { activation: "silu" })
      : silu(gate.apply(this.gate_proj.forward(x), x, options));
    const inner = mul(gated, up.apply(this.up_proj.forward(x), x, options));
    const value = down.apply(this.down_proj.forward(inner), inner, options);
    return this.#output.apply({ value, residual, layerNorm }, options);
  }
}

/** A pre-normalised Transformer layer: x + attention(norm(x)), then the same with the feed-forward part. */
class LlamaLayer extends Module {
  readonly input_layernorm: RmsNorm;
  readonly self_attn: LlamaAttention;
  readonly post_attention_layernorm: RmsNorm;
  readonly mlp: LlamaMlp;

  constructor(gpu: Gpu, c: LlamaConfig, layer: number, name: string) {
    super();
    const eps = { eps: c.rms_norm_eps };
    this.input_layernorm = new RmsNorm(gpu, c.hidden_size, eps);
    this.self_attn = new LlamaAttention(gpu, c, layer, `${name}.self_attn`);
    this.post_attention_layernorm = new RmsNorm(gpu, c.hidden_size, eps);
    this.mlp = new LlamaMlp(gpu, c, layer, `${name}.mlp`);
  }

  sites(): Site[] {
    return [...this.self_attn.sites(), ...this.mlp.sites()];
  }

  forward(x: Tensor, input: LayerInput): Tensor {
    const middle = add(x, this.self_attn.forward(x, this.input_layernorm, input));
    return add(middle, this.mlp.forward(middle, this.post_attention_layernorm, input.options));
  }
}

/** Embeddings, layers and the last normalisation. */
class LlamaModel extends Module {
  readonly embed_tokens: Embedding;
  readonly layers: readonly LlamaLayer[];
  readonly norm: RmsNorm;

  constructor(gpu: Gpu, c: LlamaConfig, name: string) {
    super();
    this.embed_tokens = new Embedding(gpu, c.vocab_size, c.hidden_size);
    this.layers = Array.from(
      { length: c.num_hidden_layers },
      (_, i) => new LlamaLayer(gpu, c, i, `${name}.layers.${i}`),
    );
    this.norm = new RmsNorm(gpu, c.hidden_size, { eps: c.rms_norm_eps });
  }

  forward(
    { inputIds, positionIds, attentionMask }: CausalInput,
    angles: Angles,
    options: CausalOptions,
    onHidden?: (hidden: Tensor) => void,
  ): Tensor {
    const input = { angles, positions: positionIds, mask: attentionMask, options };
    let x = this.embed_tokens.forward(inputIds);
    onHidden?.(x);
    for (const layer of this.layers) {
      const before = x;
      x = tidy(() => layer.forward(before, input));
      if (onHidden) onHidden(x);
      else before.dispose(); // What backward needs of it lives on.
    }
    options.cache?.advance(inputIds.shape[1] as number);
    const y = this.norm.forward(x);
    if (onHidden) onHidden(y);
    else x.dispose();
    return y;
  }
}

/** Positions that tables of angles begin with: they grow to what is asked for. */
const FIRST_POSITIONS = 256;

/** A Llama or Qwen2 as a causal language model. Checkpoint names: `model.…`, and `lm_head.weight` where it is not tied. */
export class LlamaForCausalLM extends Module implements CausalLM {
  readonly model: LlamaModel;
  readonly lm_head: CausalHead;
  readonly #gpu: Gpu;
  readonly #config: LlamaConfig;
  #angles: Angles | null = null;

  constructor(gpu: Gpu, config: LlamaConfig) {
    super();
    this.model = new LlamaModel(gpu, config, "model");
    const head = { tied: config.tie_word_embeddings, bias: false };
    this.lm_head = new CausalHead(gpu, config.vocab_size, config.hidden_size, head);
    this.#gpu = gpu;
    this.#config = config;
  }

  get gpu(): Gpu {
    return this.#gpu;
  }

  get config(): LlamaConfig {
    return this.#config;
  }

  get architecture(): string {
    return this.#config.model_type === "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM";
  }

  get vocabularySize(): number {
    return this.#config.vocab_size;
  }

  get positions(): number {
    return this.#config.max_position_embeddings;
  }

  get stopTokens(): readonly number[] {
    return idsIn(this.#config.eos_token_id);
  }

  get cacheShape(): { readonly layers: number; readonly channels: number } {
    const { num_hidden_layers: layers, num_key_value_heads: heads, head_dim: size } = this.#config;
    return { layers, channels: heads * size };
  }

  sites(): Site[] {
    return this.model.layers.flatMap((layer) => layer.sites());
  }

  hidden(input: CausalInput, options: CausalOptions = {}, onHidden?: (hidden: Tensor) => void): Tensor {
    expectTokens("llama", input);
    const length = (options.cache?.length ?? 0) + (input.inputIds.shape[1] as number);
    return this.model.forward(input, this.#anglesFor(length), options, onHidden);
  }

  logits(hidden: Tensor): Tensor {
    return this.lm_head.forward(hidden, this.model.embed_tokens.weight);
  }

  forward(input: CausalInput, options: CausalOptions = {}): Tensor {
    return tidy(() => this.logits(this.hidden(input, options)));
  }

  override dispose(): void {
    super.dispose();
    this.#disposeAngles();
  }

  /** Tables for texts of so many tokens, whose positions are below that; a graph of before keeps the shorter ones. */
  #anglesFor(length: number): Angles {
    const rows = this.#angles?.cos.shape[0] ?? 0;
    if (this.#angles && rows >= length) return this.#angles;
    const { head_dim: size, rope_theta: theta } = this.#config;
    const scaling = rotaryScaling(this.#config);
    const { cos, sin, shape } = rotaryTables(
      Math.max(FIRST_POSITIONS, 2 * rows, length),
      size,
      theta,
      scaling,
    );
    this.#disposeAngles();
    this.#angles = { cos: keep(tensor(this.#gpu, cos, shape)), sin: keep(tensor(this.#gpu, sin, shape)) };
    return this.#angles;
  }

  #disposeAngles(): void {
    this.#angles?.cos.dispose();
    this.#angles?.sin.dispose();
    this.#angles = null;
  }
}

/** Tables of angles that old files hold as buffers, and a tied head's copy of the word embeddings. */
const UNUSED = /\.rotary_emb\.inv_freq$|^lm_head\.weight$/;

function familyOf(modelType: LlamaConfig["model_type"], name: string): ModelFamily {
  return defineFamily<LlamaConfig>({
    modelType,
    architectures: [`${name}Model`, `${name}ForCausalLM`],
    parseConfig: parseLlamaConfig,
    longest: ({ max_position_embeddings: positions }) => positions,
    rename: (key) => (/^(embed_tokens|layers|norm)\./.test(key) ? `model.${key}` : key),
    heads: {
      "causal-lm": {
        make: (gpu, config) => new LlamaForCausalLM(gpu, config),
        head: /^lm_head\./,
        mayBeAbsent: /^$/,
        mayBeIgnored: UNUSED,
      },
    },
  });
}

export const LLAMA = familyOf("llama", "Llama");
export const QWEN2 = familyOf("qwen2", "Qwen2");

/**
 * A Llama or Qwen2 with the weights of a checkpoint, under names with or without `model.`; tables of angles that old
 * files hold are left out, and a tied head's copy of the word embeddings. Anything else missing or left over is an error.
 */
export function llamaFromTensors(
  gpu: Gpu,
  config: LlamaConfig,
  tensors: ReadonlyMap<string, RawTensor>,
  what = "llama",
): LlamaForCausalLM {
  const model = new LlamaForCausalLM(gpu, config);
  try {
    loadStateDict(model.stateDict(), tensors, {
      what,
      rename: LLAMA.rename,
      mayBeIgnored: (name) => UNUSED.test(name),
    });
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model;
}
