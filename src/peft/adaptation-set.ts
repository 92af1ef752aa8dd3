import type { Gpu } from "../array/index.ts";
import type { Parameter, Stream } from "../autograd/index.ts";
import type { Module, Site } from "../nn/index.ts";
import { LinearBank } from "./linear-bank.ts";
import { matchSites, type PeftMethod, type RouteSource } from "./method.ts";
import { RouteTable } from "./router.ts";

/** A model as a method sees it. */
export interface Adaptable {
  sites(): readonly Site[];
}

/**
 * One method at the sites of one model: its trainable parameters, apart from the model's, under a name of its
 * own. The base stays as it is; sets are attached and detached.
 */
export class AdaptationSet {
  readonly name: string;
  readonly method: PeftMethod;
  readonly routes: RouteTable;
  readonly #gpu: Gpu;
  readonly #parts: readonly { readonly site: Site; readonly module: Module }[];

  /** Builds the parts of every site that the method's targets match, and attaches them. */
  constructor(
    gpu: Gpu,
    model: Adaptable,
    method: PeftMethod,
    { name = "default", stream }: { name?: string; stream: Stream },
  ) {
    this.name = name;
    this.method = method;
    this.#gpu = gpu;
    const sites = matchSites(method.name, model.sites(), method.targets);
    const own = stream.fold("init");
    this.#parts = sites.map((site) => ({ site, module: method.build(gpu, site, own.fold(site.name)) }));
    const layers = sites.map(({ layer }) => layer);
    this.routes = new RouteTable(gpu, layers, method.experts);
    this.attach();
  }

  /** Whether there is anything to choose from. */
  get isMixture(): boolean {
    return this.method.experts.down > 1 || this.method.experts.up > 1;
  }

  attach(): void {
    const source: RouteSource = this.isMixture ? (layer, side) => this.routes.of(layer, side) : () => null;
    for (const { site, module } of this.#parts) this.method.attach(this.name, site, module, source);
  }

  detach(): void {
    for (const { site } of this.#parts) site.detach(this.name);
  }

  /** Parameters by name: `SITE.adapter.down.weight` and the like. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const { site, module } of this.#parts)
      yield* module.namedParameters(`${site.name}.${this.method.name}.`);
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /**
   * A set of the same method with one expert on each side, for this model, holding the uniform mean of the
   * experts: W' = (1/M) Σ W_j, each side and its biases apart. Neither set is attached afterwards but `this`
   * stays as it was. Paper: section 3.3.
   */
  mergeExperts(model: Adaptable, stream: Stream, name = `${this.name}-merged`): AdaptationSet {
    const merged = new AdaptationSet(this.#gpu, model, this.method.merged(), { name, stream });
    merged.detach();
    merged.setToMeanOf(this);
    return merged;
  }

  /** Overwrites a merged set with the mean of the experts as they are now. */
  setToMeanOf(mixture: AdaptationSet): void {
    this.#parts.forEach(({ module }, i) => {
      const source = mixture.#parts[i]?.module;
      if (!source) return;
      const banks = banksOf(source);
      banksOf(module).forEach((bank, j) => {
        const from = banks[j];
        if (from) bank.setToMeanOf(from);
      });
    });
  }

  dispose(): void {
    this.detach();
    this.routes.dispose();
    for (const { module } of this.#parts) for (const bank of banksOf(module)) bank.dispose();
  }
}

function banksOf(module: Module): LinearBank[] {
  return Object.values(module).filter((value) => value instanceof LinearBank);
}
