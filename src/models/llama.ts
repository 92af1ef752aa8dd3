import type { Gpu } from "../array/index.ts";
import {
  add,
  attention,
  drawOf,
  keep,
  mul,
  rotaryEmbedding,
  rotaryTables,
  type Tensor,
  tensor,
  tidy,
} from "../autograd/index.ts";
import { loadStateDict, type RawTensor } from "../io/index.ts";
import {
  EmbeddedSite,
  Embedding,
  KeysValuesSite,
  Linear,
  LinearSite,
  Module,
  OutputSite,
  RmsNorm,
  type Site,
  type SiteRole,
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
  readonly #keysValues: KeysValuesSite;
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
    const site = (part: "q" | "k" | "v" | "o", role: SiteRole): LinearSite =>
      new LinearSite({ name: `${name}.${part}_proj`, layer, role }, this[`${part}_proj`]);
    this.#sites = {
      q: site("q", "query"),
      k: site("k", "key"),
      v: site("v", "value"),
      o: site("o", "attentionOutput"),
    };
    this.#keysValues = new KeysValuesSite(
      { name: `${name}.keysValues`, layer, role: "keysValues" },
      { inputs: c.hidden_size, channels: keys, isCausal: true },
    );
    const place = { name: `${name}.output`, layer, role: "attention" } as const;
    this.#output = new OutputSite(place, c.hidden_size, { activation: "silu" });
    this.#config = c;
    this.#layer = layer;
  }

  sites(): Site[] {
    return [...Object.values(this.#sites), this.#keysValues, this.#output];
  }

  forward(residual: Tensor, layerNorm: RmsNorm, { angles, positions, mask, options }: LayerInput): Tensor {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, attention_dropout: p } = this.#config;
    const sites = this.#sites;
    const x = layerNorm.forward(residual);
    const turned = (y: Tensor, n: number): Tensor =>
      rotaryEmbedding(y, angles.cos, angles.sin, { heads: n, positions });
    const q = turned(sites.q.forward(x, options), heads);
    const k = turned(sites.k.forward(x, options), kvHeads);
    const v = sites.v.forward(x, options);
    const cached = options.cache?.append(this.#layer, k, v);
    const own = cached ? { ...cached, mask } : { keys: k, values: v, mask };
    const all = this.#keysValues.apply(own, x, options);
    const attended = attention(q, all.keys, all.values, all.mask, {
      heads,
      kvHeads,
      causal: true,
      keyLength: all.keyLength,
      dropout:
        options.draw && p > 0 ? { p, draw: drawOf(options.draw, "attention", this.#layer) } : undefined,
    });
    const value = sites.o.forward(attended, options);
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
    const site = (part: "gate" | "up" | "down", role: SiteRole): LinearSite =>
      new LinearSite({ name: `${name}.${part}_proj`, layer, role }, this[`${part}_proj`]);
    this.#sites = {
      gate: site("gate", "feedForwardGate"),
      up: site("up", "feedForwardInner"),
      down: site("down", "feedForwardOutput"),
    };
    const place = { name: `${name}.output`, layer, role: "feedForward" } as const;
    this.#output = new OutputSite(place, c.hidden_size, { activation: "silu" });
  }

  sites(): Site[] {
    return [...Object.values(this.#sites), this.#output];
  }

  forward(residual: Tensor, layerNorm: RmsNorm, options: CausalOptions): Tensor {
    const { gate, up, down } = this.#sites;
    const x = layerNorm.forward(residual);
    const inner = mul(gate.forward(x, options, "silu"), up.forward(x, options));
    const value = down.forward(inner, options);
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
  readonly #embedded: EmbeddedSite;
  readonly #limit: number;

  constructor(gpu: Gpu, c: LlamaConfig, name: string) {
    super();
    this.embed_tokens = new Embedding(gpu, c.vocab_size, c.hidden_size);
    this.layers = Array.from(
      { length: c.num_hidden_layers },
      (_, i) => new LlamaLayer(gpu, c, i, `${name}.layers.${i}`),
    );
    this.norm = new RmsNorm(gpu, c.hidden_size, { eps: c.rms_norm_eps });
    const place = { name: `${name}.embedded`, layer: -1, role: "embedded" } as const;
    this.#embedded = new EmbeddedSite(place, this.embed_tokens.weight);
    this.#limit = c.max_position_embeddings;
  }

  get virtualTokens(): number {
    return this.#embedded.virtualTokens;
  }

  sites(): Site[] {
    return [...this.layers.flatMap((layer) => layer.sites()), this.#embedded];
  }

  forward(
    given: CausalInput,
    angles: Angles,
    options: CausalOptions,
    onHidden?: (hidden: Tensor) => void,
  ): Tensor {
    const pass = { limit: this.#limit, cache: options.cache };
    const { front, positions, mask } = prefixedPass(given, this.virtualTokens, pass);
    const input = { angles, positions, mask, options };
    let x = tidy(() => {
      const words = this.embed_tokens.forward(given.inputIds);
      return front > 0 ? this.#embedded.apply(words, options) : words;
    });
    onHidden?.(x);
    for (const layer of this.layers) {
      const before = x;
      x = throughLayer(before, options, (h) => layer.forward(h, input));
      if (onHidden) onHidden(x);
      else before.dispose(); // What backward needs of it lives on.
    }
    options.cache?.advance(x.shape[1] as number);
    const y = tidy(() => withoutFront(this.norm.forward(x), front));
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

  get virtualTokens(): number {
    return this.model.virtualTokens;
  }

  get stopTokens(): readonly number[] {
    return idsIn(this.#config.eos_token_id);
  }

  get cacheShape(): { readonly layers: number; readonly channels: number } {
    const { num_hidden_layers: layers, num_key_value_heads: heads, head_dim: size } = this.#config;
    return { layers, channels: heads * size };
  }

  sites(): Site[] {
    return this.model.sites();
  }

  hidden(input: CausalInput, options: CausalOptions = {}, onHidden?: (hidden: Tensor) => void): Tensor {
    expectTokens("llama", input);
    const held = options.cache?.length ?? 0;
    const length = (held === 0 ? this.virtualTokens : held) + (input.inputIds.shape[1] as number);
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
        frozenHead: true,
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
