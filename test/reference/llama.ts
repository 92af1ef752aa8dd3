// A Llama's forward pass in float64, written from the formulas: one text, plain loops, nothing shared with src/models.

export interface LlamaSizes {
  readonly hidden: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: number;
  readonly eps: number;
  readonly theta: number;
  /** Positions are divided by it. */
  readonly stretch: number;
}

/** Values of a parameter by its published name; undefined where the model has none. */
export type Weights = ReadonlyMap<string, Float64Array>;

/** weight [out, in] (row-major) times x, plus a bias or none. */
function times(weights: Weights, name: string, x: Float64Array): Float64Array {
  const weight = weights.get(`${name}.weight`);
  if (!weight) throw new Error(`reference: no ${name}.weight`);
  const bias = weights.get(`${name}.bias`);
  return Float64Array.from({ length: weight.length / x.length }, (_, row) => {
    let sum = bias?.[row] ?? 0;
    for (let i = 0; i < x.length; i++) sum += (weight[row * x.length + i] as number) * (x[i] as number);
    return sum;
  });
}

function normalised(weights: Weights, name: string, x: Float64Array, eps: number): Float64Array {
  const weight = weights.get(`${name}.weight`) as Float64Array;
  const square = x.reduce((sum, value) => sum + value * value, 0) / x.length;
  return x.map((value, i) => ((weight[i] as number) * value) / Math.sqrt(square + eps));
}

/** Turns the pairs (i, i + size/2) of each head by position · θ^(-2i/size). */
function turned(x: Float64Array, position: number, { size, theta, stretch }: LlamaSizes): Float64Array {
  const y = Float64Array.from(x);
  for (let head = 0; head < x.length; head += size) {
    for (let i = 0; i < size / 2; i++) {
      const angle = (position / stretch) * theta ** ((-2 * i) / size);
      const [u, v] = [x[head + i] as number, x[head + i + size / 2] as number];
      y[head + i] = u * Math.cos(angle) - v * Math.sin(angle);
      y[head + i + size / 2] = v * Math.cos(angle) + u * Math.sin(angle);
    }
  }
  return y;
}

const plus = (a: Float64Array, b: Float64Array): Float64Array =>
  a.map((value, i) => value + (b[i] as number));

/** Logits [T][V] of one text. */
export function llamaLogits(weights: Weights, ids: readonly number[], sizes: LlamaSizes): Float64Array[] {
  const { hidden, layers, eps } = sizes;
  const table = weights.get("model.embed_tokens.weight") as Float64Array;
  let states: Float64Array[] = ids.map((id) => table.slice(id * hidden, (id + 1) * hidden));
  for (let layer = 0; layer < layers; layer++) {
    const name = `model.layers.${layer}`;
    const inputs = states.map((x) => normalised(weights, `${name}.input_layernorm`, x, eps));
    const attended = attend(weights, `${name}.self_attn`, inputs, sizes);
    states = states.map((x, t) => plus(x, attended[t] as Float64Array));
    states = states.map((x) => {
      const y = normalised(weights, `${name}.post_attention_layernorm`, x, eps);
      const gate = times(weights, `${name}.mlp.gate_proj`, y).map((z) => z / (1 + Math.exp(-z)));
      const up = times(weights, `${name}.mlp.up_proj`, y);
      return plus(
        x,
        times(
          weights,
          `${name}.mlp.down_proj`,
          gate.map((z, i) => z * (up[i] as number)),
        ),
      );
    });
  }
  const head = weights.has("lm_head.weight") ? "lm_head" : "model.embed_tokens";
  return states.map((x) => times(weights, head, normalised(weights, "model.norm", x, eps)));
}

function attend(weights: Weights, name: string, inputs: Float64Array[], sizes: LlamaSizes): Float64Array[] {
  const { heads, kvHeads, size } = sizes;
  const q = inputs.map((x, t) => turned(times(weights, `${name}.q_proj`, x), t, sizes));
  const k = inputs.map((x, t) => turned(times(weights, `${name}.k_proj`, x), t, sizes));
  const v = inputs.map((x) => times(weights, `${name}.v_proj`, x));
  return q.map((query, t) => {
    const y = new Float64Array(heads * size);
    for (let h = 0; h < heads; h++) {
      const own = h * size;
      const shared = Math.floor(h / (heads / kvHeads)) * size;
      const scores = k.slice(0, t + 1).map((key) => {
        let sum = 0;
        for (let d = 0; d < size; d++) sum += (query[own + d] as number) * (key[shared + d] as number);
        return Math.exp(sum / Math.sqrt(size));
      });
      const total = scores.reduce((sum, score) => sum + score, 0);
      for (const [s, score] of scores.entries())
        for (let d = 0; d < size; d++)
          y[own + d] = (y[own + d] as number) + (score / total) * (v[s]?.[shared + d] as number);
    }
    return times(weights, `${name}.o_proj`, y);
  });
}

/** Mean of -log p of the next tokens: of every token of a text but the first. */
export function nextTokenLoss(logits: readonly Float64Array[], ids: readonly number[]): number {
  let loss = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits[t] as Float64Array;
    const largest = row.reduce((most, z) => Math.max(most, z), Number.NEGATIVE_INFINITY);
    const sum = row.reduce((total, z) => total + Math.exp(z - largest), 0);
    loss += largest + Math.log(sum) - (row[ids[t + 1] as number] as number);
  }
  return loss / (ids.length - 1);
}
