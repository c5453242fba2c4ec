// One step of an edit: what is done, and to what, each part in a field of its own.
import type { Schemas } from "../api/client";
import { Button } from "../components/button";
import { Combobox } from "../components/combobox";
import type { Option } from "../components/suggestions";

export type Operation = Schemas["OperationRecord"];

export interface Step {
  name: string;
  value: string;
  /** What takes its place, or the other position. */
  second: string;
  /** Of a tag that is added: "back", "front", "after" or "at", and which. */
  place: string;
  where: string;
}

export const stepOf = (name: string): Step => ({ name, value: "", second: "", place: "back", where: "" });

/** What the fields of a value are called. */
const FIELDS: Record<string, readonly string[]> = {
  TAG: ["tag"],
  WORD: ["word"],
  N: ["position: 1 is the first, -1 the last"],
  "A=B": ["this", "by that"],
  "I J": ["position", "and position"],
};
const PLACES: readonly [string, string, string?][] = [
  ["back", "at the end"],
  ["front", "at the front"],
  ["after", "behind the tag…", "tag"],
  ["at", "at position…", "1 is the first, -1 the last"],
];
/** What of its help the words in the list do not say, where that speaks of the command line. */
const MORE: Record<string, string> = {
  replace: "With re: before the first it is a regular expression, and \\1 stands in the second for what was found.",
  "replace-text": "",
  "rename-tag": "With _ or spaces, in brackets, with a weight.",
};
/** Where its first words speak of A and B. */
const NAMES: Record<string, string> = {
  replace: "Replace a tag by another",
  "replace-text": "Replace text anywhere in the caption",
  "rename-tag": "Rename a tag in all its spellings",
};
const TAKES_TAGS = new Set(["add", "remove", "trigger", "replace", "rename-tag"]);

const nameOf = (operation: Operation): string => NAMES[operation.name] ?? operation.help.split(/[,;:]/)[0]!;
const isPair = (operation: Operation): boolean => operation.metavar === "A=B" || operation.metavar === "I J";

/** As the command line has it; nothing while a field is still to be filled. */
export function textsOf(step: Step, operation: Operation | undefined): string[] {
  if (!operation) return [];
  if (!operation.metavar) return [step.name];
  const value = step.value.trim();
  if (!value) return [];
  if (operation.metavar === "A=B") return [`${step.name}=${value.replaceAll("=", "\\=")}=${step.second}`];
  if (operation.metavar === "I J") return step.second.trim() ? [`${step.name}=${value} ${step.second.trim()}`] : [];
  const texts = [`${step.name}=${value}`];
  if (step.name !== "add" || step.place === "back") return texts;
  if (step.place === "front") return [...texts, "at=front"];
  const where = step.where.trim();
  if (!where) return [];
  return [...texts, step.place === "after" ? `at=after=${where}` : `at=${where}`];
}

interface Props {
  step: Step;
  number: number;
  operations: readonly Operation[];
  complete: (text: string, signal: AbortSignal) => Promise<Option[]>;
  onChange: (values: Partial<Step>) => void;
  onRemove?: (() => void) | undefined;
}

export function StepFields({ step, number, operations, complete, onChange, onRemove }: Props) {
  const operation = operations.find((one) => one.name === step.name);
  if (!operation) return null;
  const name = nameOf(operation);
  const fields = operation.metavar ? (FIELDS[operation.metavar] ?? [operation.choices.join(", ")]) : [];
  const place = PLACES.find(([each]) => each === step.place);
  const options = (text: string, signal: AbortSignal) => {
    if (TAKES_TAGS.has(step.name)) return complete(text, signal);
    return Promise.resolve(operation.choices.filter((each) => each.startsWith(text)).map((each) => ({ text: each })));
  };
  const more = MORE[step.name] ?? operation.help.slice(name.length).replace(/^[,;:]\s*/, "");
  const field = (key: "value" | "second" | "where", words: string, ofTag: boolean) => (
    <Combobox
      value={step[key]}
      label={`${name}: ${words}`}
      placeholder={words}
      complete={(text, _, signal) => (ofTag ? options(text, signal) : Promise.resolve([]))}
      onInput={(value) => onChange({ [key]: value })}
    />
  );
  return (
    <>
      <div class="row">
        <select
          class="input"
          aria-label={`Step ${number}`}
          value={step.name}
          onChange={(event) => onChange({ name: event.currentTarget.value })}
        >
          {operations
            .filter((one) => one.name !== "at")
            .map((one) => (
              <option key={one.name} value={one.name}>
                {nameOf(one)}
              </option>
            ))}
        </select>
        {onRemove && <Button kind="quiet" icon="close" label={`Without step ${number}`} onClick={onRemove} />}
      </div>
      {fields.length > 0 && (
        <div class="row">
          {field("value", fields[0]!, true)}
          {isPair(operation) && field("second", fields[1]!, operation.metavar === "A=B")}
        </div>
      )}
      {step.name === "add" && (
        <div class="row">
          <select
            class="input"
            aria-label={`${name}: where`}
            value={step.place}
            onChange={(event) => onChange({ place: event.currentTarget.value, where: "" })}
          >
            {PLACES.map(([each, words]) => (
              <option key={each} value={each}>
                {words}
              </option>
            ))}
          </select>
          {place?.[2] && field("where", place[2], step.place === "after")}
        </div>
      )}
      {more && <p class="soft small">{more}</p>}
    </>
  );
}
