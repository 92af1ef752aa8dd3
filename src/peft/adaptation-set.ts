import { type Gpu, knownOptions, type OptionNames } from "../array/index.ts";
import type { Parameter, Stream, Tensor } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import type { Module, Site } from "../nn/index.ts";
import { trainedBase } from "./base-training.ts";
import { type LearnedRouter, LearnedRouting } from "./learned-router.ts";
import { type MergeWeights, weightsOf } from "./merge-weights.ts";
import { banksIn, mergeInto, type NamedBank } from "./merging.ts";
import { matchSites, type PeftMethod, type RouteSource } from "./method.ts";
import { RouteTable } from "./route-table.ts";
import { alongPaths, type Path, type Routing } from "./routing.ts";

/** A model as a method sees it. */
export interface Adaptable {
  sites(): readonly Site[];
  /** For methods that train some of the model's own parameters. */
  namedParameters?(): Iterable<readonly [string, Parameter]>;
}

export interface AdaptationOptions {
  /** Default "default". */
  readonly name?: string;
  readonly stream: Stream;
  /** Default true. */
  readonly attached?: boolean;
  /** Chooses experts by what comes in. Default: routes are drawn. */
  readonly router?: LearnedRouter | null;
}
const NAMES: OptionNames<AdaptationOptions> = { name: true, stream: true, attached: true, router: true };

export interface MergeOptions {
  /** Name of the merged set. Default: this one's with "-merged". */
  readonly name?: string;
  /** Default: uniform, as in the paper. */
  readonly weights?: MergeWeights | null;
}

/** What a method has built for one site. */
export interface AdaptationPart {
  readonly site: Site;
  readonly module: Module;
}

/**
 * One method at the sites of one model: its trainable parameters, apart from the model's, under a name of its
 * own. The base stays as it is; sets are attached and detached.
 */
export class AdaptationSet {
  readonly name: string;
  readonly method: PeftMethod;
  readonly routes: RouteTable;
  /** The router with parameters, where there is one. */
  readonly learned: LearnedRouting | null;
  /** How rows go through the experts. Another one may stand in for a while: see ModuleMean, LearnedWeights. */
  routing: Routing;
  readonly #gpu: Gpu;
  readonly #parts: readonly AdaptationPart[];
  /** Parameters of the model that the method trains, and whether they train without it. */
  readonly #base: readonly { readonly parameter: Parameter; readonly trained: boolean }[];
  #attached = false;
  /** The path that a site computes along just now. */
  #path: Path | null = null;

  /** Builds the parts of every site that the method's targets match, and attaches them. */
  constructor(gpu: Gpu, model: Adaptable, method: PeftMethod, options: AdaptationOptions) {
    const {
      name = "default",
      stream,
      attached = true,
      router = null,
    } = knownOptions("AdaptationSet", options, NAMES);
    this.name = name;
    this.method = method;
    this.#gpu = gpu;
    const all = model.sites();
    const sites = method.targets ? matchSites(method.name, all, method.targets) : [];
    this.#base = trainedBase(method, model, all).map((parameter) => ({
      parameter,
      trained: parameter.requiresGrad,
    }));
    const own = stream.fold("init");
    const layers = sites.map(({ layer }) => layer);
    this.routes = new RouteTable(gpu, layers, method.experts);
    this.learned = router && learnedRouting(gpu, router, sites, method, own);
    this.routing = this.learned ?? this.routes;
    const parts: AdaptationPart[] = [];
    this.#parts = parts;
    try {
      const shared = new Map<number, Map<string, Module>>();
      for (const site of sites) {
        const ofLayer = shared.get(site.layer) ?? new Map<string, Module>();
        shared.set(site.layer, ofLayer);
        parts.push({ site, module: method.build(gpu, site, own.fold(site.name), ofLayer) });
      }
      if (attached) this.attach();
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Whether there are experts to draw from, and to merge. Not where a learned router chooses. */
  get isMixture(): boolean {
    return !this.learned && expertsOf(this.method) > 1;
  }

  get isAttached(): boolean {
    return this.#attached;
  }

  get parts(): readonly AdaptationPart[] {
    return this.#parts;
  }

  /**
   * Puts the parts into their sites, and has gradients of what it trains of the base. Throws where another set has taken
   * this one's name.
   */
  attach(): void {
    if (this.#attached) return;
    const taken = this.#parts.find(({ site }) => site.has(this.name));
    if (taken) {
      throw new ShapeError(
        `adaptation "${this.name}": ${taken.site.name} has one of that name; detach it, or take another name`,
      );
    }
    this.#attached = true;
    const hasExperts = expertsOf(this.method) > 1;
    const source: RouteSource = hasExperts ? (layer, side) => this.#routeOf(layer, side) : () => null;
    for (const { site, module } of this.#parts) {
      this.method.attach(this.name, site, module, source);
      if (hasExperts) this.#routeThrough(site);
    }
    for (const { parameter } of this.#base) parameter.requiresGrad = true;
  }

  /**
   * Takes the parts out of their sites; their parameters live on. What it has trained of the base keeps its values, and
   * is frozen again where it was before.
   */
  detach(): void {
    if (!this.#attached) return;
    this.#attached = false;
    for (const { site } of this.#parts) site.detach(this.name);
    for (const { parameter, trained } of this.#base) parameter.requiresGrad = trained;
  }

  /**
   * Parameters beside the model's, by name: `SITE.adapter.down.weight` and the like; of a learned router
   * `SITE.adapter.router.weight`.
   */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const { site, module } of this.#parts) {
      const prefix = `${site.name}.${this.method.name}.`;
      yield* module.namedParameters(prefix);
      for (const [name, parameter] of this.learned?.namedParameters(site) ?? [])
        yield [`${prefix}${name}`, parameter];
    }
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** The banks of all sites, by names like those of their parameters. */
  *banks(): IterableIterator<NamedBank & { readonly site: Site }> {
    for (const { site, module } of this.#parts)
      for (const entry of banksIn(module))
        yield { ...entry, name: `${site.name}.${this.method.name}.${entry.name}`, site };
  }

  /**
   * A set of the same method with one expert on each side, for this model, holding the mean of the experts, each side
   * and its biases apart: W' = (1/M) Σ W_j, or Σ weights_j W_j. It is not attached; `this` stays as it was.
   * Refuses sets with a learned router, whose experts no mean can stand for. Paper: section 3.3.
   */
  mergeExperts(model: Adaptable, stream: Stream, { name, weights = null }: MergeOptions = {}): AdaptationSet {
    if (this.learned)
      throw new ShapeError(
        `merge: the "${this.learned.router.name}" router of set "${this.name}" weighs experts for every token, which no mean of them does; keep the mixture, or train with drawn routes`,
      );
    const merged = new AdaptationSet(this.#gpu, model, this.method.merged(), {
      name: name ?? `${this.name}-merged`,
      stream,
      attached: false,
    });
    try {
      merged.setToMeanOf(this, weights);
    } catch (error) {
      merged.dispose();
      throw error;
    }
    return merged;
  }

  /** Overwrites a merged set with the mean of the experts as they are now, or with Σ weights · expert. */
  setToMeanOf(mixture: AdaptationSet, weights: MergeWeights | null = null): void {
    if (mixture.#parts.length !== this.#parts.length)
      throw new ShapeError(
        `merge: set "${mixture.name}" is at ${mixture.#parts.length} sites, "${this.name}" at ${this.#parts.length}; merge it for the same model`,
      );
    this.#parts.forEach(({ site, module }, i) => {
      const source = mixture.#parts[i] as AdaptationPart; // as many, see above
      const own = weights && ((side: "down" | "up", M: number) => weightsOf(weights, site.layer, side, M));
      mergeInto(module, source.module, source.site.name, own);
    });
  }

  dispose(): void {
    this.detach();
    this.routes.dispose();
    this.learned?.dispose();
    for (const { module } of this.#parts) module.dispose();
  }

  #routeOf(layer: number, side: "down" | "up"): Tensor {
    return this.#path ? this.#path[side] : this.routes.of(layer, side);
  }

  /** What is at a site is computed along each path that the routing gives. */
  #routeThrough(site: Site): void {
    const along = (x: Tensor, adapt: () => readonly Tensor[]): readonly Tensor[] =>
      alongPaths(this.routing.paths(site, x), (path) => {
        this.#path = path;
        try {
          return adapt();
        } finally {
          this.#path = null;
        }
      });
    const alongOne = (x: Tensor, adapt: () => Tensor): Tensor => along(x, () => [adapt()])[0] as Tensor;
    switch (site.kind) {
      case "linear":
        site.wrap(this.name, (adapt) => (y, x, options) => alongOne(x, () => adapt(y, x, options)));
        break;
      case "output":
        site.wrap(
          this.name,
          (adapt) => (output, options) => alongOne(output.value, () => adapt(output, options)),
        );
        break;
      case "keysValues":
        site.wrap(this.name, (adapt) => (x, options) => {
          const [keys, values] = along(x, () => {
            const own = adapt(x, options);
            return [own.keys, own.values];
          }) as [Tensor, Tensor]; // two went in
          return { keys, values };
        });
        break;
      case "embedded": // tokens before the first layer, which no method makes of experts
        break;
    }
  }
}

function expertsOf({ experts }: PeftMethod): number {
  return Math.max(experts.down, experts.up);
}

function learnedRouting(
  gpu: Gpu,
  router: LearnedRouter,
  sites: readonly Site[],
  method: PeftMethod,
  stream: Stream,
): LearnedRouting {
  const experts = expertsOf(method);
  if (experts === 1)
    throw new ShapeError(
      `router: "${router.name}" has one expert of ${method.name} to choose from; give experts: 2 or more`,
    );
  return new LearnedRouting(gpu, router, sites, { experts, stream });
}
