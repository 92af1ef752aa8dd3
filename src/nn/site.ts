import type { EmbeddedSite } from "./embedded-site.ts";
import type { KeysValuesSite } from "./keys-values-site.ts";
import type { LinearSite } from "./linear-site.ts";
import type { OutputSite } from "./output-site.ts";

/** A place of a model where adaptations go, of one of four kinds. */
export type Site = LinearSite | OutputSite | KeysValuesSite | EmbeddedSite;
