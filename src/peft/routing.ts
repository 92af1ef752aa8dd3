import { add, mul, type Tensor, tidy } from "../autograd/index.ts";
import type { Site } from "../nn/index.ts";

/**
 * A way of rows through the experts of a site. `down`, `up`: i32 routes, one expert for each group of rows, or f32 [M],
 * the weights of a mean of the experts (see LinearBank).
 */
export interface Path {
  readonly down: Tensor;
  readonly up: Tensor;
  /** What its output is multiplied with: f32 [..., 1] for the rows, a number for all; null: it is the only path. */
  readonly weight: Tensor | number | null;
}

/**
 * Says how rows go through the experts of a site: drawn routes (RouteTable), what a gate makes of the input
 * (LearnedRouting), or one of one's own. The output is Σ weight · output of the path.
 */
export interface Routing {
  /** The paths of the rows x [..., C] that come to a site. */
  paths(site: Site, x: Tensor): readonly Path[];
}

/** Σ weight · f(path) over the paths, for each tensor of f; f itself where there is one path without a weight. */
export function alongPaths(paths: readonly Path[], f: (path: Path) => readonly Tensor[]): readonly Tensor[] {
  const [only] = paths;
  if (!only) throw new RangeError("router: no paths for a site; a router gives one or more");
  if (paths.length === 1 && only.weight === null) return f(only);
  return tidy(
    () =>
      paths
        .map((path) => f(path).map((y) => mul(y, path.weight ?? 1)))
        .reduce((sums, parts) => sums.map((sum, i) => add(sum, parts[i] as Tensor))), // as many as `sums`
  );
}
