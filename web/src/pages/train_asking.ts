// What the server says of a draft: its plan, one for each variant, and advice for its pictures.
import { useEffect, useRef, useState } from "preact/hooks";
import { useRested } from "../api/fetched";
import { post, type Schemas } from "../api/client";
import { countOf, type Draft, firstVariants, type Values, type Variant } from "./train_draft";

type PlanAnswer = Schemas["PlanAnswer"];
export type Plan = Schemas["PlanRecord"];
export type Advice = Schemas["AdviceAnswer"];

export interface Planned {
  /** How many trainings it makes. */
  count: number;
  /** The first of them. */
  variants: Variant[];
  answers: PlanAnswer[];
  /** The command line without what has several values. */
  command: string;
  error: unknown;
  again: () => void;
  /** Whether this is not yet of what is set up now. */
  waits: boolean;
}

const NOTHING: Omit<Planned, "again"> = {
  count: 1,
  variants: [],
  answers: [],
  command: "",
  error: undefined,
  waits: true,
};
/** Milliseconds after the last key. */
const REST = 180;

export function usePlans(draft: Draft, project: Values, ready: boolean): Planned {
  const [planned, setPlanned] = useState(NOTHING);
  const [asked, setAsked] = useState(0);
  const key = JSON.stringify([draft, project, ready, asked]);
  async function askAll(signal: AbortSignal) {
    const values = { ...project, ...draft.values };
    const ask = (more: Values) =>
      post("/api/plan", { body: { preset: draft.preset || null, values: { ...values, ...more } }, signal });
    const count = countOf(draft.several);
    const variants = firstVariants(draft.several);
    const answers: PlanAnswer[] = [];
    for (const variant of variants) answers.push(await ask(variant.values));
    const command = count > 1 ? (await ask({})).command : answers[0]!.command;
    return { count, variants, answers, command };
  }
  useEffect(() => void (ready && setPlanned((before) => ({ ...before, waits: true }))), [key]);
  useRested(
    [key],
    (signal) => (ready ? askAll(signal) : null),
    (found) => setPlanned({ ...found, error: undefined, waits: false }),
    (error) => setPlanned((before) => ({ ...before, error, waits: false })),
    REST,
  );
  return { ...planned, again: () => setAsked(asked + 1) };
}

/** A while without any change, so that plans don't wait for advice. */
const QUIET = 1500;

export function useAdvice(data: string, model: string, answers: Record<string, string>, ready: boolean): Advice | null {
  const [advice, setAdvice] = useState<Advice | null>(null);
  const about = useRef("");
  const key = JSON.stringify([data, model, answers]);
  useRested(
    [key, ready],
    (signal) =>
      ready && data && about.current !== key ? post("/api/advice", { body: { data, model, answers }, signal }) : null,
    (answer) => {
      about.current = key;
      setAdvice(answer);
    },
    () => {}, // What stands in its way is said by the plan.
    QUIET,
  );
  // Of other pictures it says nothing.
  return about.current === key || advice === null || sameData(about.current, key) ? advice : null;
}

const sameData = (one: string, other: string): boolean => {
  if (!one) return false;
  const [a, b] = [JSON.parse(one) as unknown[], JSON.parse(other) as unknown[]];
  return a[0] === b[0] && a[1] === b[1];
};
