// The first checkpoint format of llama2.c: seven integers, then the weights as f32.
import { FormatError, type RawTensor } from "../io/index.ts";
import { type LlamaConfig, parseLlamaConfig } from "./llama-config.ts";

export interface Llama2cCheckpoint {
  readonly config: LlamaConfig;
  /** Under the names of published Llama checkpoints. */
  readonly tensors: ReadonlyMap<string, RawTensor>;
}

const HEADER = ["dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"] as const;
const HEADER_BYTES = 4 * HEADER.length;
/** Tokens that end a text: begin (of the next one) and end. */
const STOPS = [1, 2];

type Header = Readonly<Record<(typeof HEADER)[number], number>>;

/**
 * Reads a llama2.c checkpoint (version 0, `.bin`): a header of seven i32, then f32 arrays of all layers behind one
 * another. A negative vocab_size says that the head has a matrix of its own. Its rotary pairs lie side by side; rows of
 * queries and keys are put in the order of published checkpoints, whose pairs are half a head apart.
 */
export function readLlama2c(bytes: Uint8Array): Llama2cCheckpoint {
  const header = readHeader(bytes);
  const {
    dim,
    hidden_dim: inner,
    n_layers: L,
    n_heads: heads,
    n_kv_heads: kvHeads,
    seq_len: positions,
  } = header;
  const vocabulary = Math.abs(header.vocab_size);
  const size = dim / heads;
  const isTied = header.vocab_size > 0;
  const config = configOf(header, isTied);
  const read = new ArrayReader(bytes);
  const tensors = new Map<string, RawTensor>();
  const inLayers = (name: string, shape: readonly number[], turnedHeads = 0): void => {
    for (let layer = 0; layer < L; layer++) {
      const tensor = read.next(name, shape);
      tensors.set(
        `model.layers.${layer}.${name}.weight`,
        turnedHeads > 0 ? withHalvesApart(tensor, turnedHeads) : tensor,
      );
    }
  };
  tensors.set("model.embed_tokens.weight", read.next("embeddings", [vocabulary, dim]));
  inLayers("input_layernorm", [dim]);
  inLayers("self_attn.q_proj", [dim, dim], heads);
  inLayers("self_attn.k_proj", [kvHeads * size, dim], kvHeads);
  inLayers("self_attn.v_proj", [kvHeads * size, dim]);
  inLayers("self_attn.o_proj", [dim, dim]);
  inLayers("post_attention_layernorm", [dim]);
  inLayers("mlp.gate_proj", [inner, dim]);
  inLayers("mlp.down_proj", [dim, inner]);
  inLayers("mlp.up_proj", [inner, dim]);
  tensors.set("model.norm.weight", read.next("norm", [dim]));
  read.next("cosines", [positions, size / 2]);
  read.next("sines", [positions, size / 2]);
  if (!isTied) tensors.set("lm_head.weight", read.next("lm_head", [vocabulary, dim]));
  read.end();
  return { config, tensors };
}

function readHeader(bytes: Uint8Array): Header {
  if (bytes.length < HEADER_BYTES)
    throw new FormatError(`llama2.c: ${bytes.length} bytes, fewer than the ${HEADER_BYTES} of a header`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, HEADER_BYTES);
  const header = Object.fromEntries(HEADER.map((name, i) => [name, view.getInt32(4 * i, true)])) as Header;
  for (const name of HEADER) {
    const value = name === "vocab_size" ? Math.abs(header[name]) : header[name];
    if (value < 1 || value > 1e7)
      throw new FormatError(`llama2.c: ${name} is ${header[name]}; is this a checkpoint of version 0?`);
  }
  return header;
}

function configOf(header: Header, isTied: boolean): LlamaConfig {
  return parseLlamaConfig({
    model_type: "llama",
    vocab_size: Math.abs(header.vocab_size),
    hidden_size: header.dim,
    intermediate_size: header.hidden_dim,
    num_hidden_layers: header.n_layers,
    num_attention_heads: header.n_heads,
    num_key_value_heads: header.n_kv_heads,
    max_position_embeddings: header.seq_len,
    rms_norm_eps: 1e-5,
    tie_word_embeddings: isTied,
    eos_token_id: STOPS,
  });
}

/** Takes f32 arrays from a file, one behind the other. */
class ArrayReader {
  readonly #bytes: Uint8Array;
  #at = HEADER_BYTES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  next(name: string, shape: readonly number[]): RawTensor {
    const end = this.#at + 4 * shape.reduce((product, n) => product * n, 1);
    if (end > this.#bytes.length)
      throw new FormatError(`llama2.c: ${name} ends at byte ${end}, the file has ${this.#bytes.length}`);
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return { dtype: "F32", shape, bytes };
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left !== 0) throw new FormatError(`llama2.c: ${left} bytes are left over of ${this.#bytes.length}`);
  }
}

/** Rows 2i and 2i + 1 of each head become rows i and i + half. */
function withHalvesApart({ dtype, shape, bytes }: RawTensor, heads: number): RawTensor {
  const [rows, columns] = shape as [number, number];
  const [size, row] = [rows / heads, 4 * columns];
  const moved = new Uint8Array(bytes.length);
  for (let from = 0; from < rows; from++) {
    const place = from % size;
    const to = from - place + (place >> 1) + (place % 2) * (size / 2);
    moved.set(bytes.subarray(from * row, (from + 1) * row), to * row);
  }
  return { dtype, shape, bytes: moved };
}
