import type { Gpu } from "../array/index.ts";
import { Parameter, type Stream } from "../autograd/index.ts";
import { ShapeError } from "../gpu/index.ts";
import { Module, type Site } from "../nn/index.ts";
import { trainedBase } from "./base-training.ts";
import { LinearBank } from "./linear-bank.ts";
import { matchSites, type PeftMethod, type RouteSource } from "./method.ts";
import { RouteTable } from "./router.ts";

/** A model as a method sees it. */
export interface Adaptable {
  sites(): readonly Site[];
  /** For methods that train some of the model's own parameters. */
  namedParameters?(): Iterable<readonly [string, Parameter]>;
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
  readonly #gpu: Gpu;
  readonly #parts: readonly AdaptationPart[];
  /** Parameters of the model that the method trains, and whether they train without it. */
  readonly #base: readonly { readonly parameter: Parameter; readonly trained: boolean }[];
  #attached = false;

  /** Builds the parts of every site that the method's targets match, and attaches them. */
  constructor(
    gpu: Gpu,
    model: Adaptable,
    method: PeftMethod,
    { name = "default", stream, attached = true }: { name?: string; stream: Stream; attached?: boolean },
  ) {
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

  /** Whether there is anything to choose from. */
  get isMixture(): boolean {
    return this.method.experts.down > 1 || this.method.experts.up > 1;
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
    const source: RouteSource = this.isMixture ? (layer, side) => this.routes.of(layer, side) : () => null;
    for (const { site, module } of this.#parts) this.method.attach(this.name, site, module, source);
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

  /** Parameters beside the model's, by name: `SITE.adapter.down.weight` and the like. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    for (const { site, module } of this.#parts)
      yield* module.namedParameters(`${site.name}.${this.method.name}.`);
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /**
   * A set of the same method with one expert on each side, for this model, holding the uniform mean of the
   * experts: W' = (1/M) Σ W_j, each side and its biases apart. It is not attached; `this` stays as it was.
   * Paper: section 3.3.
   */
  mergeExperts(model: Adaptable, stream: Stream, name = `${this.name}-merged`): AdaptationSet {
    const merged = new AdaptationSet(this.#gpu, model, this.method.merged(), {
      name,
      stream,
      attached: false,
    });
    merged.setToMeanOf(this);
    return merged;
  }

  /** Overwrites a merged set with the mean of the experts as they are now. */
  setToMeanOf(mixture: AdaptationSet): void {
    this.#parts.forEach(({ module }, i) => {
      const source = mixture.#parts[i]?.module;
      if (source) setToMean(module, source);
    });
  }

  dispose(): void {
    this.detach();
    this.routes.dispose();
    for (const { module } of this.#parts) module.dispose();
  }
}

/** Sets a module to another of the same build: its banks of one expert to the mean of the other's, the rest to copies. */
function setToMean(module: Module, source: Module): void {
  const from = new Map<string, unknown>(Object.entries(source));
  for (const [name, part] of Object.entries(module)) {
    const other = from.get(name);
    if (part instanceof LinearBank && other instanceof LinearBank) part.setToMeanOf(other);
    else if (part instanceof Module && other instanceof Module) setToMean(part, other);
    else if (part instanceof Parameter && other instanceof Parameter) part.setTo(other);
  }
}
