// What was decided in sorting: told to the server a few at a time, and taken back one by one.
import { signal } from "@preact/signals";
import { post, problemsOf, type Schemas } from "../api/client";
import { sayProblems } from "../components/notices";

export type Decision = Omit<Schemas["DecisionRecord"], "name">;

interface Batch {
  items: Item[];
  /** The change's number in the dataset's history, once it is done; null where nothing changed. */
  done: Promise<number | null>;
}

export interface Item {
  name: string;
  /** Null where the picture was passed over. */
  decision: Decision | null;
  /** What decided it, to be counted. */
  key: string;
  batch: Batch | null;
}

/** ms without a decision after which what is decided is carried out. */
const REST = 700;
const MOST = 20;

export class SortQueue {
  /** All that was decided, the last at the end. */
  readonly items = signal<readonly Item[]>([]);
  /** How many of them are not carried out yet. */
  readonly waiting = signal(0);
  /** Whether some are not carried out yet, or are being carried out now. */
  readonly unfinished = signal(false);
  private sending = false;
  private timer = 0;
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly path: string,
    /** Called with what could not be carried out. */
    private readonly failed: (items: readonly Item[]) => void,
  ) {}

  add(name: string, key: string, decision: Decision | null): void {
    this.items.value = [...this.items.value, { name, key, decision, batch: null }];
    this.later();
  }

  /** The last decision is none any more; which it was. */
  async takeBack(): Promise<Item | undefined> {
    const last = this.items.value.at(-1);
    if (!last) return undefined;
    this.items.value = this.items.value.slice(0, -1);
    const batch = last.batch;
    let isBack = !(last.decision && batch);
    if (last.decision && batch) {
      clearTimeout(this.timer);
      await this.next(async () => {
        // Else it was taken back with another of its batch.
        if (last.batch === batch) {
          const entry = await batch.done.catch(() => null);
          if (entry !== null) {
            const undone = await post("/api/dataset/undo", { query: { path: this.path }, body: { entry } });
            if (undone.conflicts?.length) sayProblems(undone.conflicts);
            // The others of its batch were taken back with it, and are carried out again.
            for (const item of batch.items) item.batch = null;
          }
        }
        isBack = true;
      });
    }
    // What could not be taken back is done still.
    if (!isBack) this.items.value = [...this.items.value, last];
    this.later();
    return isBack ? last : undefined;
  }

  /** Carries out what waits, now. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    return this.next(() => this.send());
  }

  private later(): void {
    const waits = this.count();
    clearTimeout(this.timer);
    if (waits >= MOST) void this.flush();
    else if (waits) this.timer = setTimeout(() => void this.flush(), REST);
  }

  private count(): number {
    const waits = this.items.value.filter((item) => item.decision && !item.batch).length;
    this.waiting.value = waits;
    this.unfinished.value = waits > 0 || this.sending;
    return waits;
  }

  /** One after the other, whatever fails. */
  private next(act: () => Promise<void>): Promise<void> {
    const turn = this.turn.then(act).catch((error: unknown) => sayProblems(problemsOf(error)));
    this.turn = turn;
    return turn;
  }

  private async send(): Promise<void> {
    const items = this.items.value.filter((item) => item.decision && !item.batch);
    if (!items.length) return;
    const decisions = items.map((item) => ({ ...item.decision!, name: item.name }));
    const done = post("/api/dataset/sort", {
      query: { path: this.path },
      body: { decisions, apply: true, limit: 0 },
    }).then((answer) => {
      if (answer.skipped.length) sayProblems(answer.skipped);
      return answer.entry ?? null;
    });
    const batch: Batch = { items, done };
    for (const item of items) item.batch = batch;
    this.sending = true;
    this.count();
    try {
      await done;
    } catch (error) {
      for (const item of items) item.batch = null;
      this.items.value = this.items.value.filter((item) => !items.includes(item));
      this.failed(items);
      throw error;
    } finally {
      this.sending = false;
      this.count();
    }
  }
}
