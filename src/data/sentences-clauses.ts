/**
 * The grammar of the demonstration language: clauses of opinion, neutral statements, facts, frames.
 * The order of the draws is the specification: a change of it changes every later sentence.
 */

import type { Rng } from "./random.ts";
import {
  adjectives,
  aspectIndex,
  DAYS,
  DOMAIN_WORDS,
  type Domain,
  FEELINGS,
  INTENSIFIERS,
  NEGATIVE_VERBS,
  NUMBERS,
  PEOPLE,
  POSITIVE_VERBS,
  type Polarity,
  SINGULAR_ASPECTS,
  SUBJECTS,
  type Verb,
} from "./sentences-lexicon.ts";

/** Which part of the (aspect, word, construction) triples a text may use; `all` uses every one. */
export type Split = "train" | "dev" | "test" | "all";

const SPLIT_CLASSES: Readonly<Record<Split, readonly number[]>> = {
  test: [0],
  dev: [1],
  train: [2, 3, 4],
  all: [0, 1, 2, 3, 4],
};

/** The class of a triple. Classes 0 and 1 are never seen in training, in pretraining either. */
const tripleClass = (aspect: number, word: number, construction: number): number =>
  (aspect + 2 * word + 3 * construction) % 5;

/** How clauses are joined. In `but` and the concessive ones the other clause has the opposite polarity. */
export type Connector = "one" | "and" | "but" | "although" | "eventhough" | "despite" | "still";

/** Weights, in percent, of the nine constructions: 60% say it directly, 40% by negation. */
const CONSTRUCTION_WEIGHTS = [25, 12, 15, 8, 8, 6, 15, 6, 5] as const;
const CONSTRUCTIONS = CONSTRUCTION_WEIGHTS.length;

/** The construction that uses no adjective and no verb: "the soup could not have been better". */
const COULD_NOT_BE_BETTER = 8;

/** The constructions that say an opinion directly; reviews use them for the most part. */
const REVIEW_CONSTRUCTIONS: readonly number[] = [0, 0, 2, 6];

export interface Aspect {
  readonly name: string;
  readonly plural: boolean;
}

export interface Clause {
  readonly text: string;
  readonly construction: number;
}

/** A statement before its frame, and what is known of it. */
export interface Statement {
  readonly text: string;
  readonly polarity: Polarity | 0;
  /** The construction of the main clause, or the kind of the neutral statement. */
  readonly construction: number;
  /** Each aspect with the polarity asserted of it; empty in neutral statements. */
  readonly aspects: readonly (Aspect & { readonly polarity: Polarity })[];
}

const opposite = (polarity: Polarity): Polarity => (polarity > 0 ? -1 : 1);

export const drawPolarity = (rng: Rng): Polarity => (rng.chance(0.5) ? 1 : -1);

/** One of a domain's eight aspects, other than `not`. */
export function drawAspect(rng: Rng, domain: Domain, not?: string): Aspect {
  const { aspects } = DOMAIN_WORDS[domain];
  for (;;) {
    const k = rng.int(aspects.length);
    const name = aspects[k] as string; // k < length
    if (name !== not) return { name, plural: k >= SINGULAR_ASPECTS };
  }
}

interface AllowedAdjectives {
  readonly all: readonly string[];
  /** Those that belong to the domain alone. */
  readonly own: readonly string[];
}

/** Lists of allowed adjectives by what determines them; pure, kept because half of all draws need one. */
const allowedAdjectives = new Map<string, AllowedAdjectives>();

function adjectivesOf(domain: Domain, polarity: Polarity, offset: number, split: Split): AllowedAdjectives {
  const key = `${domain} ${polarity} ${offset} ${split}`;
  let allowed = allowedAdjectives.get(key);
  if (allowed === undefined) {
    const { positive, negative } = DOMAIN_WORDS[domain];
    const classes = SPLIT_CLASSES[split];
    const all = adjectives(domain, polarity).filter((_, word) =>
      classes.includes(tripleClass(offset, word, 0)),
    );
    const own = all.filter((word) => positive.includes(word) || negative.includes(word));
    allowed = { all, own };
    allowedAdjectives.set(key, allowed);
  }
  return allowed;
}

/** An adjective that the split allows; those of the domain are as likely as the general ones. */
function drawAdjective(
  rng: Rng,
  domain: Domain,
  polarity: Polarity,
  aspect: number,
  construction: number,
  split: Split,
): string {
  const offset = tripleClass(aspect, 0, construction);
  const { all, own } = adjectivesOf(domain, polarity, offset, split);
  return own.length > 0 && rng.chance(0.5) ? rng.pick(own) : rng.pick(all);
}

function drawVerb(rng: Rng, polarity: Polarity, aspect: number, construction: number, split: Split): Verb {
  const classes = SPLIT_CLASSES[split];
  const verbs = polarity > 0 ? POSITIVE_VERBS : NEGATIVE_VERBS;
  return rng.pick(verbs.filter((_, word) => classes.includes(tripleClass(aspect, word, construction))));
}

function drawConstruction(rng: Rng): number {
  let x = rng.int(100);
  return CONSTRUCTION_WEIGHTS.findIndex((weight) => {
    x -= weight;
    return x < 0;
  });
}

/** One clause that asserts `polarity` of one aspect, in a construction that is drawn unless given. */
export function clause(
  rng: Rng,
  domain: Domain,
  aspect: Aspect,
  polarity: Polarity,
  split: Split,
  given?: number,
): Clause {
  const index = aspectIndex(domain, aspect.name);
  const construction = given ?? drawConstruction(rng);
  const the = `the ${aspect.name}`;
  const was = aspect.plural ? "were" : "was";
  const adjective = (p: Polarity) => drawAdjective(rng, domain, p, index, construction, split);
  const verb = (p: Polarity) => drawVerb(rng, p, index, construction, split);
  const not = opposite(polarity);
  const say = (text: string): Clause => ({ text, construction });

  switch (construction) {
    case 0: {
      const intensifier = rng.chance(0.5) ? `${rng.pick(INTENSIFIERS)} ` : "";
      return say(`${the} ${was} ${intensifier}${adjective(polarity)}`);
    }
    case 1: {
      const intensifier = rng.pick(["very ", "really ", "that ", ""]);
      return say(`${the} ${was} not ${intensifier}${adjective(not)}`);
    }
    case 2:
      return say(`${rng.pick(SUBJECTS)} ${verb(polarity).past} ${the}`);
    case 3:
      return say(`${rng.pick(SUBJECTS)} did not ${verb(not).base} ${the}`);
    case 4:
      return say(`${the} ${was} far from ${adjective(not)}`);
    case 5: {
      const who = rng.pick(["nobody", "no one"]);
      return say(`${who} ${rng.pick(["called", "found"])} ${the} ${adjective(not)}`);
    }
    case 6:
      return say(`${the} ${rng.pick(["seemed", "felt", "looked", "turned out"])} ${adjective(polarity)}`);
    case 7:
      return say(`there was nothing ${adjective(not)} about ${the}`);
    case COULD_NOT_BE_BETTER:
      return say(`${the} could not have been ${polarity > 0 ? "better" : "worse"}`);
    default:
      throw new RangeError(`sentences: construction ${construction} is not in 0 .. ${CONSTRUCTIONS - 1}`);
  }
}

/** Single clauses 40%, "and" and "but" 15% each, the three concessive connectors 10% each. */
function drawConnector(rng: Rng): Connector {
  const k = rng.int(20);
  if (k < 8) return "one";
  if (k < 11) return "and";
  if (k < 14) return "but";
  return k < 16 ? "although" : k < 18 ? "eventhough" : "despite";
}

/** Joins the main clause and the other one; the main clause carries the polarity of the whole. */
function join(connector: Exclude<Connector, "one" | "despite">, main: string, other: string): string {
  switch (connector) {
    case "and":
      return `${other} and ${main}`;
    case "but":
      return `${other} but ${main}`;
    case "although":
      return `although ${other} , ${main}`;
    case "eventhough":
      return `${main} even though ${other}`;
    case "still":
      return `${other} . still , ${main}`;
    default:
      return connector satisfies never;
  }
}

/** A statement whose polarity is that of its main or later clause. */
export function opinion(
  rng: Rng,
  domain: Domain,
  polarity: Polarity,
  split: Split,
  given?: Connector,
): Statement {
  const connector = given ?? drawConnector(rng);
  const aspect = drawAspect(rng, domain);
  const main = clause(rng, domain, aspect, polarity, split);
  const aspects = [{ ...aspect, polarity }];
  const statement = (text: string): Statement => ({
    text,
    polarity,
    construction: main.construction,
    aspects,
  });
  if (connector === "one") return statement(main.text);

  const other = drawAspect(rng, domain, aspect.name);
  const otherPolarity = connector === "and" ? polarity : opposite(polarity);
  aspects.push({ ...other, polarity: otherPolarity });
  if (connector === "despite") {
    const index = aspectIndex(domain, other.name);
    const adjective = drawAdjective(rng, domain, otherPolarity, index, 0, split);
    return statement(`despite the ${adjective} ${other.name} , ${main.text}`);
  }
  const otherClause = clause(rng, domain, other, otherPolarity, split);
  return statement(join(connector, main.text, otherClause.text));
}

/** A statement that asserts no opinion, though most kinds mention opinion words. */
export function neutral(rng: Rng, domain: Domain, split: Split): Statement {
  const aspect = drawAspect(rng, domain);
  const index = aspectIndex(domain, aspect.name);
  const entity = rng.pick(DOMAIN_WORDS[domain].entities);
  const polarity = drawPolarity(rng);
  const kind = rng.int(8);
  const the = `the ${aspect.name}`;
  const was = aspect.plural ? "were" : "was";
  const is = aspect.plural ? "are" : "is";
  const adjective = (p: Polarity) => drawAdjective(rng, domain, p, index, kind, split);
  const say = (text: string): Statement => ({ text, polarity: 0, construction: kind, aspects: [] });

  switch (kind) {
    case 0:
      return say(`${rng.pick(SUBJECTS)} wondered whether ${the} ${was} ${adjective(polarity)}`);
    case 1:
      return say(`nobody knows yet if ${the} ${is} ${adjective(polarity)}`);
    case 2: {
      const first = adjective(polarity);
      return say(`a friend asked if ${the} ${was} ${first} or ${adjective(opposite(polarity))}`);
    }
    case 3:
      return say(`if ${the} ${is} ${adjective(polarity)} , we will hear about it`);
    case 4: {
      const first = adjective(polarity);
      return say(`some called ${the} ${first} , others ${adjective(opposite(polarity))}`);
    }
    case 5:
      return say(`${rng.pick(SUBJECTS)} talked about ${the} of the ${entity} on ${rng.pick(DAYS)}`);
    case 6:
      return say(`the ${entity} was mentioned ${rng.pick(NUMBERS)} times and ${the} once`);
    default:
      return say(`it is too early to call ${the} ${adjective(polarity)}`);
  }
}

/** Puts a statement into a place, a mouth or a time, or leaves it as it is (40%). */
export function frame(rng: Rng, domain: Domain, text: string): string {
  const k = rng.int(10);
  const entity = rng.pick(DOMAIN_WORDS[domain].entities);
  if (k < 4) return text;
  if (k < 6) return domain === "weather" ? `that ${entity} , ${text}` : `at the ${entity} , ${text}`;
  if (k < 8) return `${rng.pick(PEOPLE).name} said that ${text}`;
  if (k < 9) return `last ${rng.pick(DAYS)} , ${text}`;
  return `about the ${entity} : ${text}`;
}

/** How people felt: the words by which pretraining learns what an opinion means. */
export function consequence(rng: Rng, polarity: Polarity | 0): string {
  const k = rng.int(4);
  const feeling = rng.pick(FEELINGS[polarity]);
  if (k === 0) return `${rng.pick(["we", "they"])} felt ${feeling}`;
  if (k === 1) return `it left us ${feeling}`;
  if (k === 2) return `so ${rng.pick(SUBJECTS)} went home ${feeling}`;
  return `${rng.pick(PEOPLE).name} was ${feeling}`;
}

/** A plain narrative fact, with a pronoun or a number to follow. */
export function fact(rng: Rng, domain: Domain): string {
  const { name, pronoun } = rng.pick(PEOPLE);
  const entity = rng.pick(DOMAIN_WORDS[domain].entities);
  const aspect = drawAspect(rng, domain).name;
  switch (rng.int(6)) {
    case 0: {
      const day = rng.pick(DAYS);
      return `${name} went to the ${entity} on ${day} . ${pronoun} stayed for ${rng.pick(NUMBERS)} hours`;
    }
    case 1: {
      const friend = rng.pick(PEOPLE).name;
      return `${name} and ${friend} spoke about the ${entity} . they talked for ${rng.pick(NUMBERS)} minutes`;
    }
    case 2:
      return `the ${entity} and the ${aspect} are part of the same story`;
    case 3: {
      const number = rng.pick(NUMBERS);
      return `${name} wrote ${number} notes about the ${aspect} because ${pronoun} had time on ${rng.pick(DAYS)}`;
    }
    case 4:
      return `one ${entity} is enough but ${rng.pick(NUMBERS)} ${entity}s are too many`;
    default:
      return `when ${name} saw the ${entity} , ${pronoun} looked at the ${aspect}`;
  }
}

/** One to three sentences of one polarity, mostly direct: the easy part of the language. */
export function review(rng: Rng, domain: Domain, polarity: Polarity, split: Split): string {
  const n = 1 + rng.int(3);
  const sentences: string[] = [];
  for (let i = 0; i < n; i++) {
    const aspect = drawAspect(rng, domain);
    const given = rng.chance(0.85) ? rng.pick(REVIEW_CONSTRUCTIONS) : undefined;
    sentences.push(clause(rng, domain, aspect, polarity, split, given).text);
  }
  return sentences.join(" . ");
}

/** The same opinion about the same aspect twice, in two constructions. */
export function paraphrase(rng: Rng, domain: Domain, polarity: Polarity, split: Split): string {
  const aspect = drawAspect(rng, domain);
  const first = clause(rng, domain, aspect, polarity, split);
  const construction = (first.construction + 1 + rng.int(CONSTRUCTIONS - 1)) % CONSTRUCTIONS;
  const second = clause(rng, domain, aspect, polarity, split, construction);
  return `${first.text} . in other words , ${second.text}`;
}
