/** Opinions by how they are put, to ask a pretrained model whether it feels their polarity. */

import { createRng } from "./random.ts";
import { type Connector, drawPolarity, opinion, type Split } from "./sentences-clauses.ts";
import { DOMAINS, type Polarity } from "./sentences-lexicon.ts";

export interface ProbeExample {
  /** A statement without its final stop: append " . we felt <mask> ." and compare the two kinds of feelings. */
  readonly text: string;
  readonly polarity: Polarity;
}

export interface ProbeGroup {
  readonly name: "direct" | "negated" | "and" | "contrast" | "although";
  readonly examples: readonly ProbeExample[];
}

interface ProbeKind {
  readonly name: ProbeGroup["name"];
  readonly connector: Connector;
  /** The constructions of the main clause; any if absent. */
  readonly constructions?: readonly number[];
}

const KINDS: readonly ProbeKind[] = [
  { name: "direct", connector: "one", constructions: [0, 2, 6] },
  { name: "negated", connector: "one", constructions: [1, 3, 4, 5, 7] },
  { name: "and", connector: "and" },
  { name: "contrast", connector: "but" },
  { name: "although", connector: "although" },
];

/** Five groups of `n` opinions each, from triples that pretraining never shows. */
export function polarityProbe({
  n = 150,
  seed = 21,
  split = "test",
}: {
  readonly n?: number;
  readonly seed?: number;
  readonly split?: Split;
} = {}): ProbeGroup[] {
  const rng = createRng(seed);
  return KINDS.map(({ name, connector, constructions }) => {
    const examples: ProbeExample[] = [];
    while (examples.length < n) {
      const polarity = drawPolarity(rng);
      const { text, construction } = opinion(rng, rng.pick(DOMAINS), polarity, split, connector);
      if (constructions === undefined || constructions.includes(construction))
        examples.push({ text, polarity });
    }
    return { name, examples };
  });
}
