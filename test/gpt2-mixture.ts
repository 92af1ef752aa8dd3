// Tiny GPT-2s of the fixtures with LoRA, adapters and mixtures of them.
import type { Gpu } from "../src/array/index.ts";
import { Stream } from "../src/autograd/index.ts";
import { AdaptationSet, adapter, lora, type PeftMethod } from "../src/peft/index.ts";
import { type Fixture, loadFixture } from "./fixtures.ts";
import { expectFixture } from "./tiny-encoder.ts";
import { type Gpt2Json, gpt2Of } from "./tiny-gpt2.ts";

/** The method of a fixture, its routes and λ. */
export interface Gpt2PeftJson extends Gpt2Json {
  readonly peft: {
    readonly kind: string;
    readonly rank?: number;
    readonly alpha?: number;
    readonly bottleneck?: number;
    readonly experts?: number;
    readonly share_B?: boolean;
    readonly share_up?: boolean;
    readonly share_down?: boolean;
  };
  readonly kl_weight: number;
  readonly route_pass1: [number, number][];
  readonly route_pass2: [number, number][];
}

/** The weights and inputs of the fixtures' model. */
export const base = loadFixture<Gpt2Json>("model_gpt2");

function methodOf({ peft }: Gpt2PeftJson): PeftMethod {
  const { rank, alpha, bottleneck, experts = 1 } = peft;
  const share = peft.share_up || peft.share_B ? "up" : peft.share_down ? "down" : "none";
  // Where adapters go and their activation are the model's to say: after mlp.c_proj, geluTanh.
  if (bottleneck !== undefined) return adapter({ bottleneck, experts, share });
  return lora({ rank: rank as number, experts, share, ...(alpha !== undefined && { alpha }) });
}

/** The fixture's tensors of a bank, expert by expert. */
function keysOf(fixture: Fixture<unknown>, prefix: string, name: string): string[] {
  const [, layer, part, side] = /h\.(\d+)\.attn\.c_attn\.(\w+)\.lora\.lora_(A|B)\.weight$/.exec(name) ?? [];
  if (layer !== undefined) {
    const start = `${prefix}/layer.${layer}.${part}.${side}`;
    return fixture.keys(start).filter((key) => key === start || key.startsWith(`${start}.`));
  }
  const [, block, half, kind] = /h\.(\d+)\.mlp\.output\.adapter\.(down|up)\.(weight|bias)$/.exec(name) ?? [];
  return fixture.keys(`${prefix}/layer.${block}.mix.${half}.`).filter((key) => key.endsWith(`.${kind}`));
}

/** The model of a fixture, frozen, with its method attached. */
export function adaptedGpt2(gpu: Gpu, fixture: Fixture<Gpt2PeftJson>) {
  const model = gpt2Of(gpu, fixture, base);
  model.setRequiresGrad(false);
  const set = new AdaptationSet(gpu, model, methodOf(fixture.json), { stream: Stream.seed(1) });
  for (const [name, parameter] of set.namedParameters()) {
    const keys = keysOf(fixture, "p", name);
    parameter.write(Float32Array.from(keys.flatMap((key) => [...fixture.floats(key).data])));
  }
  return { model, set };
}

/** Compares the gradients of every bank with the fixture's, expert by expert. */
export async function expectBankGradients(
  fixture: Fixture<unknown>,
  prefix: string,
  set: AdaptationSet,
): Promise<void> {
  for (const [name, parameter] of set.namedParameters()) {
    const keys = keysOf(fixture, prefix, name);
    if (keys.length === 0 || !parameter.grad) throw new Error(`${fixture.name} ${name}: nothing to compare`);
    for (const [j, key] of keys.entries())
      await expectFixture(fixture, key, parameter.grad.slice(0, j, j + 1));
  }
}
