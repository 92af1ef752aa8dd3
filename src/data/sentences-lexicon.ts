/**
 * The words of the demonstration language: six small worlds, and what all of them share.
 * The order of every list is part of the specification: draws and splits go by index.
 */

const words = (text: string): readonly string[] => text.split(" ");

/** 1: the speaker approves; -1: the speaker does not. */
export type Polarity = 1 | -1;

/** The topics, in the order of their class indices. */
export const DOMAINS = ["food", "trip", "gadget", "film", "weather", "work"] as const;
export type Domain = (typeof DOMAINS)[number];

/** What one domain speaks about, and the adjectives that belong to it alone. */
export interface DomainWords {
  readonly entities: readonly string[];
  /** Six aspects in the singular, then two in the plural. */
  readonly aspects: readonly string[];
  readonly positive: readonly string[];
  readonly negative: readonly string[];
}

/** How many of a domain's aspects are singular; the later ones take "were". */
export const SINGULAR_ASPECTS = 6;

export const DOMAIN_WORDS: Readonly<Record<Domain, DomainWords>> = {
  food: {
    entities: words("bistro cafe diner bakery tavern canteen"),
    aspects: words("soup bread waiter dessert sauce menu noodles prices"),
    positive: words("tasty fresh crisp tender generous savoury"),
    negative: words("bland stale greasy burnt soggy sour"),
  },
  trip: {
    entities: words("hotel cabin hostel ferry tour campsite"),
    aspects: words("room view guide beach garden pool beds trails"),
    positive: words("clean quiet scenic cosy spotless comfortable"),
    negative: words("dirty noisy crowded damp cramped shabby"),
  },
  gadget: {
    entities: words("phone laptop camera speaker watch printer"),
    aspects: words("screen battery keyboard sound design manual buttons updates"),
    positive: words("sharp fast sturdy bright handy smooth"),
    negative: words("blurry slow flimsy dim clumsy glitchy"),
  },
  film: {
    entities: words("film comedy thriller drama cartoon sequel"),
    aspects: words("plot ending cast music script hero jokes effects"),
    positive: words("clever moving funny gripping witty bold"),
    negative: words("predictable boring silly lifeless shallow messy"),
  },
  weather: {
    entities: words("morning weekend spring afternoon summer evening"),
    aspects: words("sky breeze air sunset light rain clouds nights"),
    positive: words("clear mild gentle golden calm soft"),
    negative: words("gloomy harsh bitter stormy icy grey"),
  },
  work: {
    entities: words("office project workshop meeting team course"),
    aspects: words("boss schedule plan pay training feedback colleagues deadlines"),
    positive: words("fair helpful flexible friendly organised steady"),
    negative: words("unfair chaotic strict hostile pointless tiring"),
  },
};

/** Adjectives that fit every domain; they follow the domain's own in the index of an adjective. */
export const GENERAL_POSITIVE = words(
  "good great excellent lovely wonderful pleasant superb nice decent amazing",
);
export const GENERAL_NEGATIVE = words(
  "bad terrible awful poor horrible nasty dreadful weak disappointing lousy",
);

/** A verb of opinion: "we liked the soup", "we did not like the soup". */
export interface Verb {
  readonly past: string;
  readonly base: string;
}

const verb = (past: string, base: string): Verb => ({ past, base });

export const POSITIVE_VERBS: readonly Verb[] = [
  verb("liked", "like"),
  verb("loved", "love"),
  verb("enjoyed", "enjoy"),
  verb("admired", "admire"),
  verb("praised", "praise"),
];
export const NEGATIVE_VERBS: readonly Verb[] = [
  verb("hated", "hate"),
  verb("disliked", "dislike"),
  verb("regretted", "regret"),
  verb("resented", "resent"),
  verb("criticised", "criticise"),
];

export const INTENSIFIERS: readonly string[] = ["very", "really", "quite", "so", "rather", "truly", "a bit"];

/** A person and the pronoun that stands for the name. */
export interface Person {
  readonly name: string;
  readonly pronoun: "she" | "he";
}

export const PEOPLE: readonly Person[] = [
  { name: "mara", pronoun: "she" },
  { name: "tom", pronoun: "he" },
  { name: "lena", pronoun: "she" },
  { name: "omar", pronoun: "he" },
  { name: "ivy", pronoun: "she" },
  { name: "hugo", pronoun: "he" },
  { name: "nina", pronoun: "she" },
  { name: "felix", pronoun: "he" },
];

export const DAYS = words("monday tuesday wednesday thursday friday saturday sunday");
export const NUMBERS = words("two three four five six seven eight nine ten");
export const SUBJECTS: readonly string[] = ["we", "i", "they", "my sister", "our neighbours", "everyone"];

/** How people feel afterwards, by polarity (0: undecided). These words occur in no labelled text. */
export const FEELINGS: Readonly<Record<-1 | 0 | 1, readonly string[]>> = {
  1: words("happy glad pleased delighted cheerful content thrilled satisfied"),
  [-1]: words("sad upset annoyed angry miserable grumpy unhappy frustrated"),
  0: words("unsure undecided curious puzzled uncertain patient"),
};

/** All adjectives of one polarity that fit a domain, its own first. */
export function adjectives(domain: Domain, polarity: Polarity): readonly string[] {
  const { positive, negative } = DOMAIN_WORDS[domain];
  return polarity > 0 ? [...positive, ...GENERAL_POSITIVE] : [...negative, ...GENERAL_NEGATIVE];
}

/** The index of (domain, aspect): all singular aspects of all domains first, then the plural ones. */
export function aspectIndex(domain: Domain, aspect: string): number {
  const plural = DOMAIN_WORDS[domain].aspects.length - SINGULAR_ASPECTS;
  const d = DOMAINS.indexOf(domain);
  const k = DOMAIN_WORDS[domain].aspects.indexOf(aspect);
  return k < SINGULAR_ASPECTS
    ? d * SINGULAR_ASPECTS + k
    : DOMAINS.length * SINGULAR_ASPECTS + d * plural + (k - SINGULAR_ASPECTS);
}
