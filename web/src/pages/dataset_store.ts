// What the pages about a dataset know of it: its images, what is shown of them, what is chosen.
import { batch, computed, effect, signal } from "@preact/signals";
import { concerns, onChange } from "../api/changes";
import { get, post, problemsOf, put, type Schemas } from "../api/client";
import { oneAtATime } from "../api/fetched";
import { forgetUndos, say, sayProblems } from "../components/notices";
import { joined } from "../format";

export type Listing = Schemas["DatasetListing"];
export type Changes = Schemas["ChangesRecord"];
export type Caption = Schemas["CaptionRecord"];

/** As lorasmith.jobs.curating.listing.FLAGS. */
export const MASKED = 1;
export const CROPPED = 2;
export const NO_CAPTION = 4;

/** Images that are shown by themselves, such as those of a finding. */
interface Subset {
  title: string;
  names: string[];
}

export class DatasetStore {
  readonly listing = signal<Listing | null>(null);
  readonly error = signal<unknown>(undefined);
  /** What of a large folder is still being read: until the captions are, no picture has tags in the listing. */
  readonly reading = signal<Listing["reading"]>(null);
  readonly lacksCaptions = computed(() => this.reading.value?.what === "captions");
  /** The filter that was asked last, and why it could not be read. */
  readonly where = signal("");
  readonly whereError = signal<unknown>(undefined);
  readonly subset = signal<Subset | null>(null);
  /** Places of the images that the filter takes; null for all. */
  private readonly taken = signal<{ images: number[]; counts: number[] } | null>(null);
  readonly selected = signal<ReadonlySet<string>>(new Set());
  /** The image that keys are about. */
  readonly current = signal("");
  readonly history = signal<Schemas["HistoryRecord"] | null>(null);
  /** Rises when captions or files may have changed. */
  readonly changes = signal(0);

  readonly names = computed(() => this.listing.value?.names ?? []);
  readonly places = computed(() => new Map(this.names.value.map((name, place) => [name, place])));

  /** Places of the images that are shown, in their order. */
  readonly shown = computed<number[]>(() => {
    const count = this.names.value.length;
    const taken = this.taken.value;
    const all = taken ? taken.images.filter((place) => place < count) : [...Array(count).keys()];
    const subset = this.subset.value;
    if (!subset) return all;
    const places = this.places.value;
    const wanted = new Set(subset.names.map((name) => places.get(name)));
    return all.filter((place) => wanted.has(place));
  });

  /** How many of those that the filter takes have each tag. */
  readonly counts = computed<number[]>(() => {
    const listing = this.listing.value;
    if (!listing) return [];
    if (this.subset.value) {
      const counts = new Array<number>(listing.tag_names.length).fill(0);
      for (const place of this.shown.value) for (const tag of new Set(listing.tags[place])) counts[tag]!++;
      return counts;
    }
    return this.taken.value?.counts ?? listing.tag_counts;
  });

  /** Names of what is chosen, in the order of the images; else of the one that keys are about. */
  readonly chosen = computed<string[]>(() => {
    const selected = this.selected.value;
    if (selected.size) return this.names.value.filter((name) => selected.has(name));
    return this.places.value.has(this.current.value) ? [this.current.value] : [];
  });

  /** The filter that what is shown is of. */
  readonly shownWhere = signal("");
  /** The filter that was asked for last. */
  appliedWhere = "";

  private filtering: AbortController | null = null;

  constructor(readonly path: string) {}

  /** Follows the dataset until what it returns is called. */
  follow(): () => void {
    void this.reload();
    const end = onChange((topics) => {
      const folder = this.listing.value?.folder;
      if (concerns(topics, `dataset:${folder}`)) void this.reload();
    });
    // What another program wrote into a file that is there is seen when one comes back.
    const look = () => document.visibilityState === "visible" && void this.reload();
    document.addEventListener("visibilitychange", look);
    return () => (end(), document.removeEventListener("visibilitychange", look));
  }

  /** Asks for what has changed; done once nothing newer is to be asked for. */
  readonly reload = oneAtATime(() => this.read().catch((error: unknown) => void (this.error.value = error)));

  private async read(): Promise<void> {
    const version = this.listing.value?.version ?? "";
    const answer = await get("/api/dataset/images", { query: { path: this.path, version } });
    this.error.value = undefined;
    if (answer.unchanged) {
      this.reading.value = answer.reading;
      return;
    }
    // Another filter may come while this one is asked.
    let where: string;
    let filtered: Schemas["FilterAnswer"] | null;
    do {
      where = this.shownWhere.value;
      filtered = null;
      if (where.trim()) {
        filtered = await this.ask(where).catch((error: unknown) => ((this.whereError.value = error), null));
      }
    } while (where !== this.shownWhere.value);
    // All are shown then, so what is done is done to all.
    if (where.trim() && !filtered) this.shownWhere.value = "";
    if (filtered && filtered.version !== answer.version) void this.reload();
    batch(() => {
      this.listing.value = answer;
      this.reading.value = answer.reading;
      this.taken.value = filtered;
      const there = this.places.value;
      const selected = [...this.selected.value].filter((name) => there.has(name));
      if (selected.length !== this.selected.value.size) this.selected.value = new Set(selected);
      this.changes.value++;
    });
    this.history.value = await get("/api/dataset/history", { query: { path: this.path } });
  }

  private ask(where: string, signal?: AbortSignal) {
    return post("/api/dataset/filter", { query: { path: this.path }, body: { where }, signal });
  }

  /** Shows what a filter takes; what was shown stays while it cannot be read. */
  async filter(where: string): Promise<void> {
    this.filtering?.abort();
    const asking = (this.filtering = new AbortController());
    this.where.value = where;
    this.appliedWhere = where;
    if (!where.trim()) {
      batch(() => {
        this.taken.value = null;
        this.shownWhere.value = "";
        this.whereError.value = undefined;
      });
      return;
    }
    try {
      const answer = await this.ask(where, asking.signal);
      // Places are those of another listing.
      if (this.listing.value && answer.version !== this.listing.value.version) {
        batch(() => {
          this.shownWhere.value = where;
          this.whereError.value = undefined;
        });
        void this.reload(); // It asks this filter again.
        return;
      }
      batch(() => {
        this.taken.value = answer;
        this.shownWhere.value = where;
        // What is not to be seen is not chosen.
        const shown = new Set(answer.images.map((place) => this.names.value[place]));
        const selected = [...this.selected.value].filter((name) => shown.has(name));
        if (selected.length !== this.selected.value.size) this.selected.value = new Set(selected);
        this.whereError.value = undefined;
      });
    } catch (error) {
      if (!asking.signal.aborted) this.whereError.value = error;
    }
  }

  select(names: Iterable<string>): void {
    this.selected.value = new Set(names);
  }

  toggle(name: string): void {
    const selected = new Set(this.selected.value);
    if (!selected.delete(name)) selected.add(name);
    this.selected.value = selected;
  }

  /** Adds a tag to what is chosen, or takes it away where all have it. */
  toggleTag(tag: string): Promise<void> {
    return this.after(() => this.toggleNow(tag));
  }

  /** Done once it is known which tags pictures have. */
  private withCaptions(): Promise<void> {
    return new Promise((resolve) => {
      const end = effect(() => {
        if (this.lacksCaptions.value) return;
        // The first time before `end` is there.
        queueMicrotask(() => (end(), resolve()));
      });
    });
  }

  private async toggleNow(tag: string): Promise<void> {
    if (this.lacksCaptions.value) {
      say("The captions are still being read; the tag follows");
      await this.withCaptions();
    }
    const images = this.chosen.value;
    const listing = this.listing.value;
    if (!images.length || !listing || !tag.trim()) return;
    const number = listing.tag_names.indexOf(tag);
    const all = images.every((name) => listing.tags[this.places.value.get(name)!]!.includes(number));
    // In what is removed, * and ? would stand for letters.
    const operation = all && number >= 0 ? `remove=${tag.replace(/[*?]/g, "\\$&")}` : `add=${tag}`;
    const done = await this.edit({ operations: [operation], images, create: true, apply: true, limit: 0 });
    const count = Object.values(done.counts).reduce((sum, each) => sum + (each ?? 0), 0);
    await this.reload();
    say(`${all && number >= 0 ? "−" : "+"} ${tag}: ${count} of ${images.length} changed`, this.takeBack(done.entry));
  }

  async edit(body: NonNullable<Parameters<typeof post<"/api/dataset/edit">>[1]>["body"], signal?: AbortSignal) {
    return await post("/api/dataset/edit", { query: { path: this.path }, body, signal });
  }

  private turning: Promise<unknown> = Promise.resolve();

  /** One after the other, each after what it may be about. */
  private after<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turning.then(work);
    this.turning = done.catch(() => {});
    return done;
  }

  turn(what: "undo" | "redo", entry: number | null = null): Promise<void> {
    return this.after(() => this.turnNow(what, entry));
  }

  private async turnNow(what: "undo" | "redo", entry: number | null): Promise<void> {
    try {
      const done = await post(`/api/dataset/${what}`, { query: { path: this.path }, body: { entry } });
      this.history.value = done;
      const command = inWords(done.done?.[0]?.command ?? "");
      forgetUndos();
      say(what === "undo" ? `Taken back: ${command}` : `Done again: ${command}`);
      if (done.conflicts?.length) sayProblems(done.conflicts);
    } catch (error) {
      sayProblems(problemsOf(error));
    }
    await this.reload();
  }

  /** A notice's button that takes a change back. */
  takeBack(entry: number | null | undefined) {
    return entry == null ? undefined : { label: "Undo", run: () => this.turn("undo", entry) };
  }

  async caption(name: string, signal?: AbortSignal): Promise<Caption> {
    return await get("/api/dataset/caption", { query: { path: this.path, name }, signal });
  }

  async writeCaption(name: string, former: string, text: string): Promise<Caption> {
    const written = await put("/api/dataset/caption", { query: { path: this.path }, body: { name, former, text } });
    void this.reload();
    return written;
  }

  imagePath(name: string): string {
    return joined(this.listing.value?.folder ?? "", ...name.split("/"));
  }

  versionOf(name: string): string {
    const place = this.places.value.get(name);
    return place === undefined ? "" : (this.listing.value?.versions[place] ?? "");
  }
}

/** A change as people call it; the ids of findings are for programs. */
const inWords = (command: string): string =>
  command.replace(/^audit --fix .*/, "what was mended").replace(/^tag at ([\d.]+).*/, "tags by the tagger, from $1 on");

/** A text as a filter's value, as lorasmith.curation.filter_language.words.written. */
export function written(text: string): string {
  if (text && !/[\s"'\\()*?]/.test(text)) return text;
  return `"${text.replace(/([\\"*?])/g, "\\$1")}"`;
}

/** A filter with a term more, or without it where it has it; its opposite goes. */
export function withTerm(where: string, term: string): string {
  const isThere = (one: string) => ` ${where} `.includes(` ${one} `);
  const without = (one: string) => ` ${where} `.replace(` ${one} `, " ").trim();
  if (isThere(term)) return without(term);
  const opposite = term.startsWith("-") ? term.slice(1) : `-${term}`;
  if (isThere(opposite)) where = without(opposite);
  // What is joined by "or" stays together.
  if (/(^|\s)or(\s|$)/i.test(where)) where = `(${where})`;
  return `${where} ${term}`.trim();
}
