/**
 * What a place does in its model, by a name that all families share. Linear layers of attention: query, key, value,
 * attentionOutput; of the feed-forward part: feedForwardGate, feedForwardInner, feedForwardOutput. Outputs of
 * sub-layers: attention, feedForward. keysValues: what queries look at. embedded: tokens before the first layer.
 */
export type SiteRole =
  | "query"
  | "key"
  | "value"
  | "attentionOutput"
  | "feedForwardGate"
  | "feedForwardInner"
  | "feedForwardOutput"
  | "attention"
  | "feedForward"
  | "keysValues"
  | "embedded";

export interface SitePlace {
  /** Dotted, as in the checkpoint: `roberta.encoder.layer.0.attention.self.query`. */
  readonly name: string;
  /** Number of the Transformer layer: adaptations of one layer may share a draw. -1: before the first. */
  readonly layer: number;
  /** Absent: a place that only its name finds. */
  readonly role?: SiteRole;
}

/**
 * A place of a model where adaptations go. The model calls it and knows nothing of what is there.
 * Adaptations are held by the name of their set, in the order of attaching.
 */
export abstract class SiteBase<F> implements SitePlace {
  readonly name: string;
  readonly layer: number;
  readonly role?: SiteRole;
  protected readonly adaptations = new Map<string, F>();

  constructor({ name, layer, role }: SitePlace) {
    this.name = name;
    this.layer = layer;
    if (role) this.role = role;
  }

  /** Whether nothing is attached: a fused kernel may do what the site would see in parts. */
  get isEmpty(): boolean {
    return this.adaptations.size === 0;
  }

  /** Names of the sets that have something here, in the order of attaching. */
  get attached(): readonly string[] {
    return [...this.adaptations.keys()];
  }

  /** Whether something is attached under the name of a set. */
  has(set: string): boolean {
    return this.adaptations.has(set);
  }

  attach(set: string, adaptation: F): void {
    this.adaptations.set(set, adaptation);
  }

  /** Puts something around what is attached under a set's name. */
  wrap(set: string, around: (inner: F) => F): void {
    const inner = this.adaptations.get(set);
    if (inner) this.adaptations.set(set, around(inner));
  }

  detach(set: string): void {
    this.adaptations.delete(set);
  }
}
